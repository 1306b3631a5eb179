//! JSON-RPC answers as bytes, and the HTTP answer around one that is ready.

use axum::response::Response;
use http::header::HeaderName;
use http::{HeaderValue, StatusCode};
use transports::ResultHead;

use super::envelope::{Id, Refusal};
use super::problem::RpcFault;
use crate::answer::{self, JSON};
use crate::front::AsItIs;

/// What an answer needs besides id and payload.
const FRAME_BYTES: usize = 96;
/// Names the session of a legacy client.
pub(super) const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");

/// What a method gives.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The whole `result` object.
    Result(Vec<u8>),
    /// An error.
    Fault(RpcFault),
    /// A call that runs.
    Run(Box<super::exchange::Exchange>),
    /// A stream of notices (`subscriptions/listen`).
    Listen(Box<super::listen::Listen>),
}

impl From<RpcFault> for Outcome {
    fn from(fault: RpcFault) -> Self {
        Self::Fault(fault)
    }
}

/// An answer around a ready result.
pub(super) fn result(id: &Id, result: &[u8]) -> Vec<u8> {
    let mut json = begin(id, result.len());
    json.extend_from_slice(b",\"result\":");
    json.extend_from_slice(result);
    json.push(b'}');
    json
}

/// An answer around a server's own result, with members it lacks (`"a":1,"b":2`) put in front.
pub(super) fn server_result(id: &Id, raw: &str, lacking: &str) -> Vec<u8> {
    let mut json = begin(id, raw.len() + lacking.len());
    json.extend_from_slice(b",\"result\":");
    push_with(&mut json, raw, lacking);
    json.push(b'}');
    json
}

/// An object with members put in front.
pub(super) fn push_with(json: &mut Vec<u8>, raw: &str, members: &str) {
    match raw.strip_prefix('{') {
        Some(rest) if !members.is_empty() => {
            json.push(b'{');
            json.extend_from_slice(members.as_bytes());
            if !rest.trim_start().starts_with('}') {
                json.push(b',');
            }
            json.extend_from_slice(rest.as_bytes());
        }
        _ => json.extend_from_slice(raw.as_bytes()),
    }
}

/// An error as an answer. Where the id could not be read it is null, as JSON-RPC wants.
pub(super) fn fault(id: Option<&Id>, fault: &RpcFault) -> Vec<u8> {
    let mut json = Vec::with_capacity(FRAME_BYTES + fault.message.len());
    json.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    json.extend_from_slice(id.map_or("null", Id::raw).as_bytes());
    json.extend_from_slice(format!(",\"error\":{{\"code\":{},\"message\":", fault.code).as_bytes());
    json.extend_from_slice(transports::wire::raw_text(&fault.message).get().as_bytes());
    if let Some(data) = &fault.data {
        json.extend_from_slice(b",\"data\":");
        json.extend_from_slice(data.get().as_bytes());
    }
    json.extend_from_slice(b"}}");
    json
}

/// A request of ours, or a notification when it has no id.
pub(super) fn message(id: Option<&Id>, method: &str, params: Option<&str>) -> Vec<u8> {
    let mut json = Vec::with_capacity(FRAME_BYTES + params.map_or(0, str::len));
    json.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        json.extend_from_slice(b",\"id\":");
        json.extend_from_slice(id.raw().as_bytes());
    }
    json.extend_from_slice(b",\"method\":");
    json.extend_from_slice(transports::wire::raw_text(method).get().as_bytes());
    if let Some(params) = params {
        json.extend_from_slice(b",\"params\":");
        json.extend_from_slice(params.as_bytes());
    }
    json.push(b'}');
    json
}

fn begin(id: &Id, payload_bytes: usize) -> Vec<u8> {
    let mut json = Vec::with_capacity(FRAME_BYTES + id.raw().len() + payload_bytes);
    json.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    json.extend_from_slice(id.raw().as_bytes());
    json
}

/// The members a modern client must find in a result and an older server did not write.
pub(super) fn lacking(
    modern: bool,
    (head, cacheable): (Option<&ResultHead<'_>>, bool),
) -> &'static str {
    let Some(head) = head.filter(|_| modern) else {
        return if modern {
            missing(false, true, true)
        } else {
            ""
        };
    };
    // A result that is not complete is not to be cached, and says nothing of it.
    let cacheable = cacheable && head.is_type("complete");
    missing(
        head.result_type.is_some(),
        !cacheable || head.ttl_ms.is_some(),
        !cacheable || head.cache_scope.is_some(),
    )
}

fn missing(kind: bool, ttl: bool, scope: bool) -> &'static str {
    match (kind, ttl, scope) {
        (true, true, true) => "",
        (true, true, false) => r#""cacheScope":"private""#,
        (true, false, true) => r#""ttlMs":0"#,
        (true, false, false) => r#""ttlMs":0,"cacheScope":"private""#,
        (false, true, true) => r#""resultType":"complete""#,
        (false, true, false) => r#""resultType":"complete","cacheScope":"private""#,
        (false, false, true) => r#""resultType":"complete","ttlMs":0"#,
        (false, false, false) => r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#,
    }
}

/// An HTTP answer of one JSON-RPC message.
pub(super) fn json(status: StatusCode, message: Vec<u8>) -> Response {
    let mut response = answer::with_status(answer::bytes(message, JSON), status);
    response.extensions_mut().insert(AsItIs);
    response
}

/// An HTTP answer of a message that was refused.
pub(super) fn refused(refusal: &Refusal, status: StatusCode) -> Response {
    json(status, fault(refusal.id.as_ref(), &refusal.fault))
}

/// A notification or an answer was taken.
pub(super) fn accepted() -> Response {
    answer::empty(StatusCode::ACCEPTED)
}

/// With the session's id.
pub(super) fn with_session(mut response: Response, id: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(SESSION_HEADER, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn shown(json: Vec<u8>) -> String {
        String::from_utf8(json).unwrap()
    }

    fn lacks(raw: &str, cacheable: bool) -> &'static str {
        let raw = RawValue::from_string(raw.to_owned()).unwrap();
        let head = ResultHead::of(&raw);
        assert_eq!(lacking(false, (Some(&head), cacheable)), "");
        lacking(true, (Some(&head), cacheable))
    }

    #[test]
    fn a_servers_result_is_forwarded_byte_for_byte_around_what_it_lacks() {
        let id = Id::text("a");
        let raw = r#"{"x":1.00,"y":{"resultType":"complete"}}"#;
        assert_eq!(lacks(raw, false), r#""resultType":"complete""#);
        assert_eq!(
            shown(server_result(&id, raw, lacks(raw, false))),
            r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete","x":1.00,"y":{"resultType":"complete"}}}"#
        );
        assert_eq!(
            shown(server_result(&id, "{ }", lacks("{ }", false))),
            r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete" }}"#
        );
        assert_eq!(
            shown(server_result(&id, raw, "")),
            format!(r#"{{"jsonrpc":"2.0","id":"a","result":{raw}}}"#)
        );
    }

    #[test]
    fn only_what_lacks_is_added() {
        for (raw, cacheable, expected) in [
            (r#"{"resultType":"task"}"#, false, ""),
            (
                r#"{"resultType":"complete"}"#,
                true,
                r#""ttlMs":0,"cacheScope":"private""#,
            ),
            (
                r#"{"ttlMs":5,"cacheScope":"public"}"#,
                true,
                r#""resultType":"complete""#,
            ),
            (
                r#"{"resultType":"complete","ttlMs":5}"#,
                true,
                r#""cacheScope":"private""#,
            ),
            (r#"{"resultType":"input_required"}"#, true, ""),
            (
                "{}",
                true,
                r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#,
            ),
        ] {
            assert_eq!(lacks(raw, cacheable), expected, "{raw}");
        }
        assert_eq!(lacking(true, (None, true)), r#""resultType":"complete""#);
    }

    #[test]
    fn errors_are_written_with_their_data_and_a_null_id_where_none_was_read() {
        let error = RpcFault::parse_error("say \"hi\"");
        assert_eq!(
            shown(fault(None, &error)),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"say \"hi\""}}"#
        );
        assert_eq!(
            shown(message(None, "notifications/x", Some("{\"a\":1}"))),
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"a":1}}"#
        );
    }
}
