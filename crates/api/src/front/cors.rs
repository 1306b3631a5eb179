//! What a page of another origin is told: nothing, unless the configuration trusts its origin. Then exactly which
//! methods a path knows and which headers it reads; never a wildcard, never with cookies.

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::answer;

/// How headers begin that mirror a tool's arguments (MCP 2026-07-28).
const MIRRORED_PREFIX: &str = "mcp-param-";
/// Most of them allowed at once; no tool mirrors more.
const MAX_MIRRORED: usize = 32;
/// Headers with a meaning of ours.
const READ: &str = "accept, authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, \
                    mcp-method, mcp-name, mcp-protocol-version, mcp-session-id, prefer, traceparent, tracestate, \
                    x-workspace";
/// Headers of answers a page may read.
const TOLD: &str =
    "etag, location, mcp-session-id, ratelimit, ratelimit-policy, retry-after, x-trace-id";
/// What a preflight's answer depends on, besides the origin.
const PREFLIGHT_VARIES: &str = "access-control-request-method, access-control-request-headers";
/// How long a browser may remember it: a change of the configuration is felt soon.
const REMEMBERED_S: u64 = 600;
/// Methods a page may be allowed; HEAD needs no asking and OPTIONS is the asking.
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

/// Which page asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// None: no `Origin`.
    None,
    /// One of our own origin, which needs no leave.
    Own,
    /// One of a trusted origin.
    Trusted(HeaderValue),
}

/// Tells a page whether it may read this answer. Caches hear that answers differ by origin wherever any is trusted.
pub(super) fn dress(headers: &mut HeaderMap, page: &Page, any_trusted: bool) {
    if any_trusted {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Page::Trusted(origin) = page {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(TOLD),
        );
    }
}

/// The answer to a trusted page's preflight: what the path knows (`allow`, from the router), what we read.
pub(super) fn preflight(asked: &HeaderMap, allow: Option<&HeaderValue>) -> Response {
    let mut response = answer::empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static(PREFLIGHT_VARIES));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(REMEMBERED_S));
    let known = allow.and_then(|allow| allow.to_str().ok());
    let known = known.unwrap_or_default().split(',').map(str::trim);
    let methods: Vec<&str> = known.filter(|method| METHODS.contains(method)).collect();
    // A path nobody knows allows nothing.
    if let (false, Ok(value)) = (
        methods.is_empty(),
        HeaderValue::try_from(methods.join(", ")),
    ) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, value);
    }
    if let Ok(allowed) = HeaderValue::try_from(readable(asked)) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

/// Ours, and those of the asked ones that mirror arguments: tools name them, so no list can know them.
fn readable(asked: &HeaderMap) -> String {
    let mut allowed = READ.to_owned();
    let asked = asked.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mirrored = asked
        .split(',')
        .map(str::trim)
        .filter(|name| name.to_ascii_lowercase().starts_with(MIRRORED_PREFIX));
    for name in mirrored.take(MAX_MIRRORED) {
        allowed.push_str(", ");
        allowed.push_str(name);
    }
    allowed
}
