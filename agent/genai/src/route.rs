//! Which requests belong to an API: method and path, before any body is read.

/// One kind of request of an API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// The end of the path, in segments: any prefix may stand before it, of gateways and proxies. `{name}` captures a
    /// segment or, before `:verb`, the start of one; `{name+}` captures one or more segments.
    pub(crate) path: &'static str,
    /// `gen_ai.operation.name`
    pub(crate) operation: &'static str,
    pub(crate) confidence: Confidence,
    pub(crate) request: Framing,
    pub(crate) response: Framing,
}

/// How sure the head of a request makes it that the exchange is a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confidence {
    /// No other API has such a path.
    Certain,
    /// Others have such a path: the bodies have to confirm it, unless the host is that of a known provider.
    Likely,
    /// The bodies have to confirm it, also at the host of a known provider.
    ByBodies,
    /// The request is a call if it has this header field, else it is none.
    WithHeader(&'static str),
    /// The request is a call if it goes to one of these hosts, else it is none. A name that begins with a dot or dash is
    /// the end of a host's name.
    At(&'static [&'static str]),
}

/// How documents lie in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A JSON document, or many as server-sent events or JSON lines: content type and first byte tell.
    Detect,
    /// JSON lines, also where the content type does not say so.
    Lines,
    /// `application/vnd.amazon.eventstream` with JSON payloads, or a JSON document.
    EventStream,
    /// As [`Self::EventStream`], with the document as base64 in the payload's field `bytes`.
    EventStreamBase64,
    /// As [`Self::EventStream`], with the bytes of server-sent events as the payloads.
    EventStreamOfEvents,
    /// Form fields, whose names are looked up as keys of the top-level object; or a JSON document.
    Multipart,
    /// Messages of a WebSocket, each a JSON document.
    WebSocket,
    /// gRPC: messages of Protocol Buffers, each a document.
    Grpc,
    /// JSON or events where the content type says so. Of all else nothing is read: audio, an image, plain text.
    Opaque,
}

impl Framing {
    pub(crate) const fn is_event_stream(self) -> bool {
        matches!(self, Self::EventStream | Self::EventStreamBase64 | Self::EventStreamOfEvents)
    }
}

impl Route {
    /// A POST of JSON that is certainly a call.
    pub(crate) const fn post(path: &'static str, operation: &'static str) -> Self {
        Self {
            method: "POST",
            path,
            operation,
            confidence: Confidence::Certain,
            request: Framing::Detect,
            response: Framing::Detect,
        }
    }

    /// A method of a gRPC service.
    pub(crate) const fn grpc(path: &'static str, operation: &'static str) -> Self {
        Self { request: Framing::Grpc, response: Framing::Grpc, ..Self::post(path, operation) }
    }

    pub(crate) const fn get(path: &'static str, operation: &'static str) -> Self {
        Self { method: "GET", ..Self::post(path, operation) }
    }

    pub(crate) const fn confidence(self, confidence: Confidence) -> Self {
        Self { confidence, ..self }
    }

    pub(crate) const fn likely(self) -> Self {
        self.confidence(Confidence::Likely)
    }

    pub(crate) const fn request(self, request: Framing) -> Self {
        Self { request, ..self }
    }

    pub(crate) const fn response(self, response: Framing) -> Self {
        Self { response, ..self }
    }

    /// What an index of routes finds this one by: the last literal segment or the `:verb` of the last segment, and how many
    /// segments stand behind it.
    pub(crate) fn key(&self) -> (&'static str, usize) {
        if self.path == "/" {
            return ("/", 0);
        }
        for (depth, segment) in self.path.rsplit('/').enumerate() {
            match segment.rfind('}') {
                None => return (segment, depth),
                Some(end) if end + 1 < segment.len() => return (&segment[end + 1..], depth),
                Some(_) => {}
            }
        }
        ("", 0)
    }

    /// What the path (without query) captures, if it is one of this route.
    pub(crate) fn captures<'p>(&self, path: &'p str) -> Option<Captures<'p>> {
        let mut captures = Captures::default();
        if self.path == "/" {
            return path.is_empty().then_some(captures);
        }
        let mut rest = path;
        let mut template = self.path.rsplit('/').peekable();
        while let Some(part) = template.next() {
            if part.is_empty() && template.peek().is_none() {
                return Some(captures);
            }
            let (before, segment) = rest.rsplit_once('/')?;
            let Some((name, suffix)) = part.strip_prefix('{').and_then(|part| part.split_once('}')) else {
                if segment != part {
                    return None;
                }
                rest = before;
                continue;
            };
            let Some(name) = name.strip_suffix('+') else {
                let value = segment.strip_suffix(suffix).filter(|value| !value.is_empty())?;
                captures.push(name, value);
                rest = before;
                continue;
            };
            // As many segments as there are behind the literal one.
            let literal = template.next()?;
            let mut start = None;
            let mut from = 0;
            for segment in rest.split('/') {
                from += segment.len() + 1;
                if segment == literal && from < rest.len() {
                    start = Some(from);
                    break;
                }
            }
            let value = rest[start?..].strip_suffix(suffix).filter(|value| !value.is_empty())?;
            captures.push(name, value);
            rest = &rest[..start? - 1];
            rest = &rest[..rest.len() - literal.len()];
            rest = rest.strip_suffix('/')?;
        }
        Some(captures)
    }
}

/// What the `{name}`s of a route stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Captures<'p>([(&'static str, &'p str); MOST_CAPTURES]);

const MOST_CAPTURES: usize = 3;

impl<'p> Captures<'p> {
    fn push(&mut self, name: &'static str, value: &'p str) {
        if let Some(free) = self.0.iter_mut().find(|(known, _)| known.is_empty()) {
            *free = (name, value);
        }
    }

    /// As it was sent, percent-encoding and all.
    pub(crate) fn raw(&self, name: &str) -> Option<&'p str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Without percent-encoding, at most 256 bytes of it.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.raw(name).map(percent_decoded)
    }
}

/// A part of a URL without percent-encoding (RFC 3986 §2.1), at most 256 bytes of it. What is no valid encoding stays as
/// it is; invalid UTF-8 becomes U+FFFD.
pub(crate) fn percent_decoded(text: &str) -> String {
    const LONGEST: usize = 256;
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let encoded = match (first, after) {
            (b'%', [high, low, ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        bytes.push(encoded.unwrap_or(*first));
        rest = if encoded.is_some() { &after[2..] } else { after };
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

/// The value of a parameter in the query of a request target, without percent-encoding.
pub(crate) fn query(target: &[u8], name: &str) -> Option<String> {
    let target = str::from_utf8(target).ok()?;
    let (_, query) = target.split_once('?')?;
    let query = query.split('#').next()?;
    let value = query.split('&').find_map(|pair| {
        let (known, value) = pair.split_once('=')?;
        (known == name).then_some(value)
    })?;
    Some(percent_decoded(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_the_end_of_a_path() {
        for (template, path, expected) in [
            ("/chat/completions", "/v1/chat/completions", Some(vec![])),
            ("/chat/completions", "/chat/completions", Some(vec![])),
            ("/chat/completions", "/v1/xchat/completions", None),
            ("/chat/completions", "/v1/chat/completions/x", None),
            ("/chat/completions", "chat/completions", None),
            ("/deployments/{model}/completions", "/a/deployments/d/completions", Some(vec![("model", "d")])),
            ("/deployments/{model}/completions", "/a/deployments//completions", None),
            ("/models/{model}:generate", "/v1/models/gemini:generate", Some(vec![("model", "gemini")])),
            ("/models/{model}:generate", "/v1/models/:generate", None),
            ("/models/{model}:generate", "/v1/models/gemini:generateX", None),
            ("/responses/{id}", "/v1/responses/r1", Some(vec![("id", "r1")])),
            ("/model/{model+}/invoke", "/model/a/b/invoke", Some(vec![("model", "a/b")])),
            ("/model/{model+}/invoke", "/p/model/a%2Fb/invoke", Some(vec![("model", "a%2Fb")])),
            ("/model/{model+}/invoke", "/model/invoke", None),
            ("/", "", Some(vec![])),
            ("/", "/x", None),
            ("/v1/{kind}/{id}/run", "/v1/k/i/run", Some(vec![("id", "i"), ("kind", "k")])),
        ] {
            let captures = Route::post(template, "chat").captures(path);
            let found = captures.map(|c| c.0.into_iter().filter(|(name, _)| !name.is_empty()).collect());
            assert_eq!(found, expected, "{template} {path}");
        }
    }

    #[test]
    fn routes_are_found_by_their_last_literal() {
        for (template, expected) in [
            ("/", ("/", 0)),
            ("/chat/completions", ("completions", 0)),
            ("/models/{model}:generate", (":generate", 0)),
            ("/responses/{id}", ("responses", 1)),
            ("/models/{owner}/{name}", ("models", 2)),
        ] {
            assert_eq!(Route::post(template, "chat").key(), expected, "{template}");
        }
    }

    #[test]
    fn parts_of_urls_are_decoded() {
        for (sent, expected) in
            [("a%3Ab%2f", "a:b/"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%ff", "\u{fffd}"), ("", "")]
        {
            assert_eq!(percent_decoded(sent), expected, "{sent}");
        }
        assert_eq!(percent_decoded(&"ä".repeat(300)).len(), 256);
        assert_eq!(query(b"/x?a=1&model=gpt%2D4&b#model=y", "model").as_deref(), Some("gpt-4"));
        assert_eq!(query(b"/x#?model=y", "nothing"), None);
    }
}
