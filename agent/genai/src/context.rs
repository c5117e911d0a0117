//! What all calls of an exchange have in common.

use std::sync::Arc;

use tokentap_wire::Nanos;

use crate::{
    HttpMeasurements, Options, SpanKind, TraceContext, identity::Identity, recognition::Destination,
};

/// What all calls of an exchange have in common.
#[derive(Debug)]
pub(crate) struct ExchangeContext {
    pub(crate) options: Arc<Options>,
    pub(crate) kind: SpanKind,
    /// Who made the calls, where that is asked for.
    pub(crate) identity: Option<Box<Identity>>,
    pub(crate) start: Nanos,
    pub(crate) parent: Option<TraceContext>,
    pub(crate) destination: Destination,
    /// The provider that the host or a header shows.
    pub(crate) provider: Option<&'static str>,
    /// 0 before the head of the response, and where that could not be resolved.
    pub(crate) status: u16,
    pub(crate) response_gap: bool,
    /// What the response says that the server knows it by, by the key of the attribute.
    pub(crate) response_ids: Box<[(&'static str, String)]>,
    /// The request asks for its trace to be kept.
    pub(crate) forced: bool,
    /// The exchange as HTTP; its status is [`Self::status`].
    pub(crate) http: HttpMeasurements,
}
