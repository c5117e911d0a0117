//! OTLP: batches as protobuf messages over gRPC or HTTP, offered until the receiver has taken them.

mod connect;
mod grpc;
pub(super) mod halves;
mod http;
pub(super) mod json;
pub(super) mod log;
pub(super) mod message;
mod retry;
mod transport;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    config::{HeaderSetting, OtlpConfig, Protocol, Signal},
    counters::Loss,
    drain::Drain,
    error::StartError,
    outcome::DeliveryOutcome,
    record::Record,
};
use grpc::Grpc;
use halves::halves;
use http::Http;
use retry::{Accepted, Backoff, Failure, Outage, PATIENCE};

/// Most refusals of parts of one batch before what is refused is cut no further: enough to find some bad items among 512.
const MOST_REFUSALS: usize = 32;
/// Most bytes of a request before it is compressed: receivers accept 4 MiB.
const MOST_BYTES: usize = 4 << 20;

/// The receiver refuses something in a request, and says why.
struct Refused(String);

/// An exporter to one receiver.
#[derive(Debug)]
pub(super) struct Otlp {
    signal: Signal,
    client: Client,
    timeout: Duration,
    secrets: Vec<HeaderSetting>,
    outage: Outage,
    /// The receiver has said that it takes nothing of the signal.
    unsupported: bool,
}

#[derive(Debug)]
enum Client {
    Grpc(Grpc),
    Http(Http),
}

impl Otlp {
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, StartError> {
        let client = match config.protocol {
            Protocol::Grpc => Client::Grpc(Grpc::new(config)?),
            Protocol::HttpProtobuf | Protocol::HttpJson => Client::Http(Http::new(config)?),
        };
        Ok(Self {
            signal: config.signal,
            client,
            timeout: config.timeout,
            secrets: config.headers.clone(),
            outage: Outage::new(config.name(), config.signal),
            unsupported: false,
        })
    }

    /// Offers a batch until it is taken or refused for good. Waits between attempts, but not for the one that
    /// follows the order to drain. Cancel it to give up: `done` says at any time what has become of parts of it.
    pub(super) async fn deliver(
        &mut self,
        batch: &[Arc<Record>],
        drain: &mut Drain,
        done: &mut DeliveryOutcome,
    ) {
        let request = match self.signal {
            Signal::Logs => log::encode(batch),
            // Metrics are not made of batches.
            Signal::Traces | Signal::Metrics => message::encode(batch),
        };
        self.send_parts(request, batch.len() as u64, drain, done).await;
    }

    /// As [`Self::deliver`], of an encoded request of the exporter's signal with so many items.
    pub(super) async fn send(&mut self, request: Bytes, items: u64, drain: &mut Drain) -> DeliveryOutcome {
        let mut done = DeliveryOutcome::delivered(0);
        self.send_parts(request, items, drain, &mut done).await;
        done
    }

    async fn send_parts(
        &mut self,
        request: Bytes,
        items: u64,
        drain: &mut Drain,
        done: &mut DeliveryOutcome,
    ) {
        let mut left = vec![(request, items)];
        let mut refused = 0;
        while let Some((request, items)) = left.pop() {
            let Some(body) = self.body(request.clone()) else {
                self.outage.rejected(items, "it cannot be said in JSON");
                done.add(DeliveryOutcome::lost(Loss::Rejected, items));
                continue;
            };
            // JSON is longer than what batches are measured by. One item that is too large is the receiver's to refuse.
            if body.len() > MOST_BYTES
                && let Some([first, second]) = halves(self.signal, &request)
            {
                left.extend([second, first]);
                continue;
            }
            match self.send_whole(body, items, drain).await {
                Ok(sent) => done.add(sent),
                Err(Refused(why)) => {
                    refused += 1;
                    match halves(self.signal, &request).filter(|_| refused < MOST_REFUSALS) {
                        Some([first, second]) => left.extend([second, first]),
                        None => {
                            self.outage.rejected(items, &why);
                            done.add(DeliveryOutcome::lost(Loss::Rejected, items));
                        }
                    }
                }
            }
        }
    }

    async fn send_whole(
        &mut self,
        body: Bytes,
        spans: u64,
        drain: &mut Drain,
    ) -> Result<DeliveryOutcome, Refused> {
        let request = self.compress(body);
        let mut backoff = Backoff::new();
        let mut put_off_since = None;
        loop {
            let asked = match self.offer(request.clone()).await {
                Ok(accepted) => return Ok(self.taken(spans, accepted)),
                Err(Failure::Refused(why)) => return Err(Refused(self.masked(&why))),
                Err(Failure::Unsupported(why)) if self.signal == Signal::Metrics => {
                    tracing::info!(
                        "{} takes no metrics ({}): none are sent to it; OTEL_METRICS_EXPORTER=none says so from the start",
                        self.outage.exporter(),
                        self.masked(&why)
                    );
                    self.unsupported = true;
                    return Ok(DeliveryOutcome::delivered(0));
                }
                Err(Failure::Rejected(why) | Failure::Unsupported(why)) => {
                    self.outage.rejected(spans, &self.masked(&why));
                    return Ok(DeliveryOutcome::lost(Loss::Rejected, spans));
                }
                Err(Failure::Unreachable(why)) => {
                    self.outage.waiting(&self.masked(&why));
                    put_off_since = None;
                    None
                }
                Err(Failure::Again { after, why }) => {
                    let why = self.masked(&why);
                    if put_off_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        self.outage.rejected(spans, &why);
                        return Ok(DeliveryOutcome::lost(Loss::RetryExpired, spans));
                    }
                    self.outage.waiting(&why);
                    after
                }
            };
            let wait = backoff.wait();
            if drain.has_started() {
                // Better too early than never.
                sleep(wait).await;
            } else {
                tokio::select! {
                    () = sleep(asked.map_or(wait, |asked| asked.min(PATIENCE))) => {}
                    () = drain.started() => backoff = Backoff::new(),
                }
            }
        }
    }

    /// Whether the receiver has said that it takes nothing of the signal.
    pub(super) const fn is_unsupported(&self) -> bool {
        self.unsupported
    }

    fn body(&self, batch: Bytes) -> Option<Bytes> {
        match &self.client {
            Client::Grpc(_) => Some(batch),
            Client::Http(http) => http.body(batch),
        }
    }

    fn compress(&self, body: Bytes) -> Bytes {
        match &self.client {
            // It compresses by itself, at each attempt.
            Client::Grpc(_) => body,
            Client::Http(http) => http.compress(body),
        }
    }

    async fn offer(&mut self, request: Bytes) -> Result<Accepted, Failure> {
        let attempt = async {
            match &mut self.client {
                Client::Grpc(grpc) => grpc.export(request).await,
                Client::Http(http) => http.export(request).await,
            }
        };
        timeout(self.timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(Failure::Unreachable(format!("no answer within {:?}", self.timeout))))
    }

    fn taken(&mut self, spans: u64, mut accepted: Accepted) -> DeliveryOutcome {
        accepted.message = self.masked(&accepted.message);
        self.outage.delivered(&accepted);
        let rejected = accepted.rejected.min(spans);
        let mut outcome = DeliveryOutcome::delivered(spans - rejected);
        if rejected > 0 {
            outcome.add(DeliveryOutcome::lost(Loss::Rejected, rejected));
        }
        outcome
    }

    /// What a receiver says, fit for a log line: short, on one line, and without our own credentials, which
    /// some receivers quote.
    fn masked(&self, said: &str) -> String {
        const LONGEST: usize = 300;
        let mut text: String =
            said.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
        for header in &self.secrets {
            let value = String::from_utf8_lossy(header.value.as_bytes()).into_owned();
            for secret in value.split_ascii_whitespace().filter(|word| word.len() > 3) {
                text = text.replace(secret, "****");
            }
        }
        text
    }
}
