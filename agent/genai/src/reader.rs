//! Reads the bodies of one exchange as bodies of one API.

use tokentap_wire::{Headers, MessagePart, Nanos, Reason, RequestHead, ResponseHead, Role};

use crate::{
    Api, Options,
    api::ApiSpec,
    content::Capture,
    decoder::{Decoder, OpenCalls},
    facts::Facts,
    framing::{Body, Visitor},
    route::{Captures, Framing, Route},
};

/// The reader of one API.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) api: &'static ApiSpec,
    /// `gen_ai.operation.name`
    pub(crate) operation: &'static str,
    decoder: Box<dyn Decoder>,
    pub(crate) calls: OpenCalls,
    /// Both bodies, by [`Role::index`] of who sends them.
    bodies: [Body; 2],
    /// The messages of a WebSocket are read.
    pub(crate) web_socket: bool,
}

/// Of an API that is known by its bodies only.
static NO_ROUTE: Route = Route::post("/", "");

impl Reader {
    /// `route`: `None` where the path does not say that the request is one of this API.
    pub(crate) fn new(
        api: Api,
        route: Option<&Route>,
        head: &RequestHead<'_>,
        captures: &Captures<'_>,
        options: &Options,
    ) -> Self {
        let api = api.spec();
        let route = route.or_else(|| api.routes.first()).unwrap_or(&NO_ROUTE);
        let mut reader = Self {
            api,
            operation: route.operation,
            decoder: (api.decoder)(),
            calls: OpenCalls::default(),
            bodies: [
                Body::new(route.request, api, Role::Client),
                Body::new(route.response, api, Role::Server),
            ],
            web_socket: route.response == Framing::WebSocket,
        };
        if let (Some(read), Some(_)) = (api.content, &options.content) {
            reader.calls.capture = Some(Box::new(Capture::new(read)));
        }
        if let Some(model) = captures.get("model") {
            let request = &mut reader.calls.current.request;
            (request.model, request.model_in_path) = (model, true);
        }
        reader.bodies[0].headers(&head.headers);
        reader.decoder.request_head(head, captures, &mut reader.calls);
        reader
    }

    pub(crate) fn response_head(&mut self, head: &ResponseHead<'_>) {
        self.bodies[1].headers(&head.headers);
        self.decoder.response_head(head, &mut self.calls);
    }

    #[inline]
    pub(crate) fn body(&mut self, from: Role, bytes: &[u8], at: Nanos) {
        self.calls.now = at;
        self.calls.current.response.now = at;
        let (body, mut visitor) = self.visitor(from);
        body.push(bytes, &mut visitor);
    }

    pub(crate) fn message(&mut self, part: &MessagePart<'_>, at: Nanos) {
        self.calls.now = at;
        self.calls.current.response.now = at;
        let (body, mut visitor) = self.visitor(part.from);
        body.message(part, &mut visitor);
    }

    pub(crate) fn gap(&mut self, from: Role, missing: Option<u64>) {
        if from == Role::Server {
            self.calls.gap();
        }
        let (body, mut visitor) = self.visitor(from);
        body.gap(missing, &mut visitor);
    }

    /// The request is complete.
    pub(crate) fn request_end(&mut self, at: Nanos) {
        self.calls.now = at;
        let (body, mut visitor) = self.visitor(Role::Client);
        // A request that is no JSON is the server's to refuse.
        body.finish(true, &mut visitor);
    }

    pub(crate) fn trailers(&mut self, fields: Headers<'_>) {
        self.decoder.trailers(fields, &mut self.calls);
    }

    /// The exchange is over; `complete`: with the end of the response. Returns what is malformed in the response body.
    pub(crate) fn finish(&mut self, complete: bool, at: Nanos) -> Option<Reason> {
        self.calls.now = at;
        let (body, mut visitor) = self.visitor(Role::Server);
        let malformed = body.finish(complete, &mut visitor);
        self.decoder.finish(&mut self.calls);
        malformed
    }

    pub(crate) const fn facts(&self) -> &Facts {
        &self.calls.current
    }

    fn visitor(&mut self, from: Role) -> (&mut Body, Visitor<'_>) {
        let Self { api, decoder, calls, bodies, .. } = self;
        let capturing = calls.capture.is_some();
        let visitor = Visitor { api, decoder: &mut **decoder, calls, from, begun: None, capturing };
        (&mut bodies[from.index()], visitor)
    }
}
