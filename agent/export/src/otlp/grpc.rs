//! OTLP/gRPC: one unary call per batch.

use std::{error::Error as _, time::Duration};

use bytes::{BufMut as _, Bytes};
use http::{HeaderMap, HeaderValue, header, uri::PathAndQuery};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};
use tonic_types::StatusExt as _;

use super::{
    retry::{Accepted, Failure},
    transport::{self, HttpClient, USER_AGENT, Version, chain},
};
use crate::{
    config::{Compression, OtlpConfig, Signal},
    error::StartError,
};

/// The unary call of each signal.
const fn method(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    }
}

/// A client of one receiver.
#[derive(Debug)]
pub(super) struct Grpc {
    service: tonic::client::Grpc<HttpClient<tonic::body::Body>>,
    metadata: MetadataMap,
    timeout: Duration,
    method: PathAndQuery,
}

impl Grpc {
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, StartError> {
        let client = transport::client(config, Version::Http2)?;
        let mut service = tonic::client::Grpc::with_origin(client, config.endpoint.clone());
        let encoding = match config.compression {
            Compression::None => None,
            Compression::Gzip => Some(CompressionEncoding::Gzip),
            Compression::Zstd => Some(CompressionEncoding::Zstd),
        };
        if let Some(encoding) = encoding {
            // Receivers answer in the coding that they are asked in.
            service = service.send_compressed(encoding).accept_compressed(encoding);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(config.headers.iter().map(|h| (h.name.clone(), h.value.clone())));
        Ok(Self {
            service,
            metadata: MetadataMap::from_headers(headers),
            timeout: config.timeout,
            method: PathAndQuery::from_static(method(config.signal)),
        })
    }

    /// Offers an encoded batch once.
    pub(super) async fn export(&mut self, batch: Bytes) -> Result<Accepted, Failure> {
        let mut request = Request::new(batch);
        *request.metadata_mut() = self.metadata.clone();
        request.set_timeout(self.timeout);
        match self.service.unary(request, self.method.clone(), ExportCodec).await {
            Ok(response) => Ok(accepted(response.into_inner())),
            Err(status) => Err(failure(&status)),
        }
    }
}

/// What a response of either protocol says. The responses of both signals have the same fields.
pub(super) fn accepted(response: ExportTraceServiceResponse) -> Accepted {
    response.partial_success.map_or_else(Accepted::default, |partial| Accepted {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or_default(),
        message: partial.error_message,
    })
}

/// <https://opentelemetry.io/docs/specs/otlp/#failures>
fn failure(status: &Status) -> Failure {
    // What never came from the receiver has a cause on this side.
    if let Some(cause) = status.source() {
        return Failure::Unreachable(chain(cause));
    }
    let why = format!("{:?}: {}", status.code(), status.message());
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Failure::Again { after, why },
        Code::Unimplemented => Failure::Unsupported(why),
        Code::ResourceExhausted if after.is_some() => Failure::Again { after, why },
        Code::InvalidArgument | Code::ResourceExhausted | Code::Internal | Code::Unknown => {
            Failure::Refused(why)
        }
        _ => Failure::Rejected(why),
    }
}

/// Sends bytes that are encoded already: once per batch, not once per attempt.
#[derive(Debug)]
struct ExportCodec;

impl Codec for ExportCodec {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for ExportCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, batch: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(batch);
        Ok(())
    }
}

impl Decoder for ExportCodec {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<ExportTraceServiceResponse>, Status> {
        // The receiver has taken the batch: nothing in its answer can undo that.
        Ok(Some(ExportTraceServiceResponse::decode(bytes).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn codes_decide_whether_a_batch_is_offered_again() {
        let again = |code| matches!(failure(&Status::new(code, "")), Failure::Again { after: None, .. });
        for code in [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unavailable,
            Code::DataLoss,
        ] {
            assert!(again(code), "{code:?}");
        }
        for code in [
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::Unimplemented,
            Code::Internal,
            Code::Unknown,
            Code::ResourceExhausted,
        ] {
            assert!(!again(code), "{code:?}");
        }
    }

    #[test]
    fn an_exhausted_receiver_may_name_a_time() {
        let mut details = ErrorDetails::with_debug_info(vec!["stack".into()], "detail");
        details.set_retry_info(Some(Duration::from_millis(2_500)));
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert_eq!(
            failure(&status),
            Failure::Again {
                after: Some(Duration::from_millis(2_500)),
                why: "ResourceExhausted: busy".into()
            }
        );
        let damaged =
            Status::with_details(Code::ResourceExhausted, "busy", Bytes::from_static(b"\xff\xff\xff"));
        assert_eq!(failure(&damaged), Failure::Refused("ResourceExhausted: busy".into()));
    }
}
