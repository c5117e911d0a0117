//! OTLP: batches as protobuf messages over gRPC or HTTP, offered until the receiver has taken them.

mod connect;
mod grpc;
mod halves;
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

/// Most requests that one batch becomes when a receiver refuses it: enough to find some bad items among 512.
const MOST_PARTS: usize = 64;

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
    /// follows the order to drain. Cancel it to give up.
    pub(super) async fn deliver(&mut self, batch: &[Arc<Record>], drain: &mut Drain) -> DeliveryOutcome {
        let request = match self.signal {
            Signal::Logs => log::encode(batch),
            // Metrics are not made of batches.
            Signal::Traces | Signal::Metrics => message::encode(batch),
        };
        self.send(request, batch.len() as u64, drain).await
    }

    /// As [`Self::deliver`], of an encoded request of the exporter's signal with so many items.
    pub(super) async fn send(&mut self, request: Bytes, items: u64, drain: &mut Drain) -> DeliveryOutcome {
        let mut outcome = DeliveryOutcome::delivered(0);
        let mut left = vec![(request, items)];
        let mut parts = 0;
        while let Some((request, items)) = left.pop() {
            parts += 1;
            match self.send_whole(request.clone(), items, drain).await {
                Ok(sent) => outcome.add(sent),
                Err(Refused(why)) => match halves(self.signal, &request).filter(|_| parts < MOST_PARTS) {
                    Some([first, second]) => left.extend([second, first]),
                    None => {
                        self.outage.rejected(items, &why);
                        outcome.add(DeliveryOutcome::lost(Loss::Rejected, items));
                    }
                },
            }
        }
        outcome
    }

    async fn send_whole(
        &mut self,
        request: Bytes,
        spans: u64,
        drain: &mut Drain,
    ) -> Result<DeliveryOutcome, Refused> {
        let request = self.prepare(request);
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

    fn prepare(&self, batch: Bytes) -> Bytes {
        match &self.client {
            Client::Grpc(_) => batch,
            Client::Http(http) => http.prepare(batch),
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
