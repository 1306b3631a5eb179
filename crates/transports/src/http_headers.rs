//! The headers that go out: the owner's own, and those the protocol derives from a message.
//!
//! Never logs one; every value the owner gave is marked sensitive.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::ExposeSecret as _;

use crate::spec::HttpSpec;
use crate::wire::{Params, Request};

/// The session of a legacy server.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision spoken.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Where a broken stream is taken up again.
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// What every POST accepts.
const ACCEPT_POST: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
/// What every GET accepts.
const ACCEPT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Headers that frame the message or belong to the protocol; an owner may not set them.
const RESERVED: [HeaderName; 13] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    SESSION,
    VERSION,
    LAST_EVENT_ID,
];

/// A header of the definition cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderRefused {
    #[error("the header `{0}` is set by the protocol and may not be set for a server")]
    Reserved(HeaderName),
    #[error("the value of the header `{0}` holds characters that no header may hold")]
    Value(HeaderName),
}

/// The headers of every POST to this server.
pub(crate) fn base_headers(spec: &HttpSpec) -> Result<HeaderMap, HeaderRefused> {
    let mut headers = HeaderMap::with_capacity(spec.headers.len() + 6);
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::ACCEPT, ACCEPT_POST);
    for (name, secret) in &spec.headers {
        let derived = [METHOD, NAME].contains(name) || name.as_str().starts_with("mcp-param-");
        if derived || RESERVED.contains(name) || name.as_str().starts_with("proxy-") {
            return Err(HeaderRefused::Reserved(name.clone()));
        }
        let mut value = HeaderValue::from_str(secret.expose_secret())
            .map_err(|_| HeaderRefused::Value(name.clone()))?;
        value.set_sensitive(true);
        headers.append(name.clone(), value);
    }
    Ok(headers)
}

/// Turns the headers of a POST into those of a GET for a stream.
pub(crate) fn for_stream(mut headers: HeaderMap, last_event_id: Option<&str>) -> HeaderMap {
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::ACCEPT, ACCEPT_STREAM);
    if let Some(id) = last_event_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(LAST_EVENT_ID, id);
    }
    headers
}

/// The headers a modern server routes by: method, and the name of what is called or read.
pub(crate) fn add_routing(headers: &mut HeaderMap, request: &Request) {
    add_method(headers, &request.method);
    let named_by = match &*request.method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return,
    };
    if let Some(value) = text_member(&request.params, named_by).and_then(|text| header_text(&text))
    {
        headers.insert(NAME, value);
    }
}

/// `Mcp-Method` alone.
pub(crate) fn add_method(headers: &mut HeaderMap, method: &str) {
    if let Some(value) = header_text(method) {
        headers.insert(METHOD, value);
    }
}

/// A member of `params` that holds text.
pub(crate) fn text_member<'a>(params: &'a Params, name: &str) -> Option<Cow<'a, str>> {
    let raw = params.get(name)?.get();
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Text as a header value. What is no plain ASCII, is padded, or could be read as encoded already
/// travels as `=?base64?…?=` (2026-07-28 § Transports).
pub(crate) fn header_text(text: &str) -> Option<HeaderValue> {
    let padded = text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']);
    let plain = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    let looks_encoded = text.starts_with("=?base64?") && text.ends_with("?=");
    if plain && !padded && !looks_encoded {
        return HeaderValue::from_str(text).ok();
    }
    HeaderValue::try_from(format!("=?base64?{}?=", STANDARD.encode(text))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::OutboundPolicy;
    use secrecy::SecretString;

    fn spec(name: &'static str, value: &str) -> HttpSpec {
        HttpSpec {
            url: "https://example.com/mcp".parse().unwrap(),
            headers: vec![(HeaderName::from_static(name), SecretString::from(value))],
            outbound: OutboundPolicy::default(),
            bearer: None,
        }
    }

    #[test]
    fn values_that_are_not_plain_ascii_travel_encoded() {
        let text = |value: &str| header_text(value).unwrap().to_str().unwrap().to_owned();
        assert_eq!(text("get weather"), "get weather");
        assert_eq!(text("Привет"), "=?base64?0J/RgNC40LLQtdGC?=");
        assert_eq!(text(" padded"), "=?base64?IHBhZGRlZA==?=");
        assert_eq!(text("a\r\nX-Evil: 1"), "=?base64?YQ0KWC1FdmlsOiAx?=");
        assert_eq!(text("=?base64?eA==?="), "=?base64?PT9iYXNlNjQ/ZUE9PT89?=");
    }

    #[test]
    fn the_protocols_own_headers_may_not_be_set() {
        for name in [
            "host",
            "mcp-session-id",
            "mcp-method",
            "mcp-param-x",
            "transfer-encoding",
            "proxy-authorization",
        ] {
            let refused = base_headers(&spec(name, "x"));
            assert!(matches!(refused, Err(HeaderRefused::Reserved(_))), "{name}");
        }
    }

    #[test]
    fn a_value_with_a_line_end_is_refused_and_a_good_one_is_secret() {
        assert!(matches!(
            base_headers(&spec("x-key", "a\r\nb: c")),
            Err(HeaderRefused::Value(_))
        ));
        let headers = base_headers(&spec("authorization", "Bearer s3cret")).unwrap();
        assert!(headers["authorization"].is_sensitive());
        assert!(!format!("{headers:?}").contains("s3cret"));
    }
}
