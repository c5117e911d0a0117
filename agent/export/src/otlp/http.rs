//! OTLP/HTTP with bodies of binary protobuf or of JSON: one POST per batch.

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};
use http::{
    Method, Request, StatusCode, Uri,
    header::{self, HeaderMap, HeaderValue},
};
use http_body_util::{BodyExt as _, Full, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;

use super::{
    grpc::accepted,
    json,
    retry::{Accepted, Failure},
    transport::{self, HttpClient, USER_AGENT, Version, chain},
};
use crate::{
    config::{Compression, OtlpConfig, Protocol, Signal},
    error::StartError,
};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
/// Most bytes read of a response.
const MAX_RESPONSE: usize = 64 << 10;

/// A client of one receiver.
#[derive(Debug)]
pub(super) struct Http {
    client: HttpClient<Full<Bytes>>,
    endpoint: Uri,
    headers: HeaderMap,
    compression: Compression,
    /// Of which signal JSON is sent.
    json: Option<Signal>,
}

impl Http {
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, StartError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(config.headers.iter().map(|h| (h.name.clone(), h.value.clone())));
        let json = (config.protocol == Protocol::HttpJson).then_some(config.signal);
        let kind = if json.is_some() { JSON } else { PROTOBUF };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let coding = match config.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        };
        if let Some(coding) = coding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        Ok(Self {
            client: transport::client(config, Version::Http1)?,
            endpoint: config.endpoint.clone(),
            headers,
            compression: config.compression,
            json,
        })
    }

    /// The body for an encoded batch, before it is compressed. `None`: it cannot be said in JSON.
    pub(super) fn body(&self, batch: Bytes) -> Option<Bytes> {
        match self.json {
            Some(signal) => json::request(signal, batch),
            None => Some(batch),
        }
    }

    /// What goes over the wire for a body, the same for each attempt.
    pub(super) fn compress(&self, body: Bytes) -> Bytes {
        match self.compression {
            Compression::None => body,
            Compression::Gzip => gzip(&body),
            Compression::Zstd => zstd(&body),
        }
    }

    /// Offers a prepared batch once.
    pub(super) async fn export(&self, batch: Bytes) -> Result<Accepted, Failure> {
        let mut request = Request::new(Full::new(batch));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        let response = self.client.request(request).await.map_err(|e| Failure::Unreachable(chain(&e)))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_RESPONSE).collect().await.map(http_body_util::Collected::to_bytes);
        let body = body.unwrap_or_default();
        let is = |kind: &str| {
            let announced = head.headers.get(header::CONTENT_TYPE);
            announced.is_some_and(|announced| announced.as_bytes().starts_with(kind.as_bytes()))
        };
        let (is_protobuf, is_json) = (is(PROTOBUF), is(JSON));
        if head.status.is_success() {
            // The receiver has taken the batch: nothing in its answer can undo that.
            return Ok(match (is_protobuf, is_json) {
                (true, _) => accepted(ExportTraceServiceResponse::decode(body).unwrap_or_default()),
                (_, true) => json::accepted(&body),
                _ => Accepted::default(),
            });
        }
        let said = match (is_protobuf, is_json) {
            (true, _) => tonic_types::Status::decode(body).map(|status| status.message).unwrap_or_default(),
            (_, true) => json::error_message(&body),
            _ => String::new(),
        };
        let why = format!("{} {said}", head.status).trim_end().to_owned();
        Err(failure(head.status, retry_after(&head.headers, SystemTime::now()), why))
    }
}

/// <https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes>
fn failure(status: StatusCode, after: Option<Duration>, why: String) -> Failure {
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Failure::Again { after, why },
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Failure::Unsupported(why)
        }
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY
        | StatusCode::INTERNAL_SERVER_ERROR => Failure::Refused(why),
        _ => Failure::Rejected(why),
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Level::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a Vec takes every write").into()
}

fn zstd(bytes: &[u8]) -> Bytes {
    // The default level of the library.
    zstd::bulk::compress(bytes, 3).expect("a Vec takes every write").into()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn statuses_decide_whether_a_batch_is_offered_again() {
        for (status, again) in [
            (429, true),
            (502, true),
            (503, true),
            (504, true),
            (400, false),
            (401, false),
            (404, false),
            (413, false),
            (500, false),
            (302, false),
        ] {
            let failure = failure(StatusCode::from_u16(status).unwrap(), None, String::new());
            assert_eq!(matches!(failure, Failure::Again { .. }), again, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, want) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, now), want.map(Duration::from_secs), "{value}");
        }
    }
}
