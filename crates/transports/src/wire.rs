//! The JSON-RPC envelope. Parses `id`, `method`, `params`, `result`, `error` and nothing inside them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// A JSON-RPC id as the peer wrote it: kept raw so that `1`, `1.0` and `"1"` stay apart.
#[derive(Debug, Clone)]
pub struct RequestId(pub Box<RawValue>);

/// The members of a `params` object in order, values untouched.
#[derive(Debug, Clone, Default)]
pub struct Params(pub Vec<(Cow<'static, str>, Box<RawValue>)>);

/// One request to a server.
#[derive(Debug)]
pub struct Request {
    /// `tools/call`, `tools/list`, …
    pub method: Cow<'static, str>,
    /// Members of `params` but for `_meta`.
    pub params: Params,
    /// Members of `_meta` the caller wants sent (`traceparent`, …); the transport adds its own.
    pub meta: Params,
    /// The deadline, from now. The upstream is told of the cancellation when it passes.
    pub timeout: Duration,
    /// Gets this request's progress (and, on HTTP, log) notifications, in order and before the answer.
    /// A full channel loses notifications, counted in [`crate::Connection::dropped_notifications`].
    pub progress: Option<mpsc::Sender<Notification>>,
    /// Set when sending twice does no harm (lists, reads, tools marked read-only or idempotent):
    /// only these are sent again after a legacy HTTP session was found dead.
    pub repeatable: bool,
}

/// A notification from the server.
#[derive(Debug, Clone)]
pub struct Notification {
    /// `notifications/progress`, …
    pub method: String,
    /// Raw `params`, if any.
    pub params: Option<Box<RawValue>>,
}

/// A request from the server to the client: sampling, elicitation, roots, ping.
#[derive(Debug, Clone)]
pub struct ServerRequest {
    /// To be given back with the answer.
    pub id: RequestId,
    /// `elicitation/create`, …
    pub method: String,
    /// Raw `params`, if any.
    pub params: Option<Box<RawValue>>,
}

/// One message from the peer.
#[derive(Debug)]
pub enum Incoming {
    /// An answer to one of our requests.
    Response(Response),
    /// A request of the peer.
    Request(ServerRequest),
    /// A notification of the peer.
    Notification(Notification),
    /// A batch, which 2025-03-26 allows; never nested.
    Batch(Vec<Incoming>),
}

/// An answer, not yet matched to its request.
#[derive(Debug)]
pub struct Response {
    /// Our id as it was echoed; `None` for `null` or anything that is no id of ours.
    pub id: Option<u64>,
    /// The raw result, or the error.
    pub outcome: Result<Box<RawValue>, RpcError>,
}

/// A JSON-RPC error object, read leniently.
#[derive(Debug, Clone, Deserialize)]
pub struct RpcError {
    /// The code; 0 when the peer left it out.
    #[serde(default)]
    pub code: i64,
    /// The peer's words.
    #[serde(default)]
    pub message: String,
    /// Raw `data`.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}

/// The bytes are no JSON-RPC message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON-RPC message")]
pub struct NotJsonRpc;

/// Most messages taken from one batch; a larger one is no JSON-RPC to us.
pub const MAX_BATCH: usize = 1024;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Reads one message.
///
/// # Errors
/// [`NotJsonRpc`] when the bytes are no JSON, or JSON that is neither answer, request nor notification
/// (such as a structured log line on stdout).
pub fn parse(bytes: &[u8]) -> Result<Incoming, NotJsonRpc> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let messages: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|_| NotJsonRpc)?;
        if messages.is_empty() || messages.len() > MAX_BATCH {
            return Err(NotJsonRpc);
        }
        let parsed = messages
            .iter()
            .map(|message| parse_one(message.get().as_bytes()));
        return parsed.collect::<Result<_, _>>().map(Incoming::Batch);
    }
    parse_one(bytes)
}

fn parse_one(bytes: &[u8]) -> Result<Incoming, NotJsonRpc> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| NotJsonRpc)?;
    let params = envelope.params.map(ToOwned::to_owned);
    // `"id": null` reads as absent: a notification may not carry one, and no request of a peer may use it.
    match (envelope.method, envelope.id) {
        (Some(method), Some(id)) => Ok(Incoming::Request(ServerRequest {
            id: RequestId(id.to_owned()),
            method: method.into_owned(),
            params,
        })),
        (Some(method), None) => Ok(Incoming::Notification(Notification {
            method: method.into_owned(),
            params,
        })),
        (None, id) => {
            // Our ids are plain unsigned integers; whatever else is echoed was never ours.
            let id = id.and_then(|raw| raw.get().parse().ok());
            let outcome = match (envelope.result, envelope.error) {
                (_, Some(error)) => Err(serde_json::from_str(error.get()).map_err(|_| NotJsonRpc)?),
                (Some(result), None) => Ok(result.to_owned()),
                (None, None) => return Err(NotJsonRpc),
            };
            Ok(Incoming::Response(Response { id, outcome }))
        }
    }
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Params;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((Cow::Owned(name), value));
                }
                Ok(Params(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Params {
    /// Takes the members of a raw object. Anything else gives no members.
    #[must_use]
    pub fn from_raw(raw: &RawValue) -> Self {
        serde_json::from_str(raw.get()).unwrap_or_default()
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: Box<RawValue>) -> Self {
        self.0.push((name.into(), value));
        self
    }

    /// Adds a member that holds text.
    #[must_use]
    pub fn with_text(self, name: impl Into<Cow<'static, str>>, text: &str) -> Self {
        self.with(name, raw_text(text))
    }

    /// A member's raw value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }
}

/// Text as raw JSON.
#[must_use]
pub fn raw_text(text: &str) -> Box<RawValue> {
    let mut json = String::with_capacity(text.len() + 2);
    push_text(&mut json, text);
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A request as one line, without the newline. `transport_meta` is a run of members (`"a":1,"b":2`)
/// the era asks for; it stands before the caller's own.
#[must_use]
pub fn encode_request(id: u64, request: &Request, transport_meta: &str, progress: bool) -> String {
    let mut line = String::with_capacity(
        160 + request
            .params
            .0
            .iter()
            .map(|(k, v)| k.len() + v.get().len() + 4)
            .sum::<usize>(),
    );
    line.push_str("{\"jsonrpc\":\"2.0\",\"id\":");
    push_number(&mut line, id);
    line.push_str(",\"method\":");
    push_text(&mut line, &request.method);
    line.push_str(",\"params\":{");
    let mut first = true;
    for (name, value) in &request.params.0 {
        push_member(&mut line, &mut first, name, value);
    }
    if progress || !transport_meta.is_empty() || !request.meta.0.is_empty() {
        separate(&mut line, &mut first);
        line.push_str("\"_meta\":{");
        let mut first_meta = transport_meta.is_empty();
        line.push_str(transport_meta);
        if progress {
            separate(&mut line, &mut first_meta);
            line.push_str("\"progressToken\":");
            push_number(&mut line, id);
        }
        for (name, value) in &request.meta.0 {
            push_member(&mut line, &mut first_meta, name, value);
        }
        line.push('}');
    }
    line.push_str("}}");
    line
}

/// A notification as one line, without the newline.
#[must_use]
pub fn encode_notification(method: &str, params: &Params) -> String {
    let mut line = String::from("{\"jsonrpc\":\"2.0\",\"method\":");
    push_text(&mut line, method);
    if !params.0.is_empty() {
        line.push_str(",\"params\":{");
        let mut first = true;
        for (name, value) in &params.0 {
            push_member(&mut line, &mut first, name, value);
        }
        line.push('}');
    }
    line.push('}');
    line
}

/// Our answer to a request of the peer, as one line without the newline.
#[must_use]
pub fn encode_answer(id: &RequestId, outcome: &Result<Box<RawValue>, (i64, String)>) -> String {
    let mut line = String::from("{\"jsonrpc\":\"2.0\",\"id\":");
    push_raw(&mut line, &id.0);
    match outcome {
        Ok(result) => {
            line.push_str(",\"result\":");
            push_raw(&mut line, result);
        }
        Err((code, message)) => {
            use std::fmt::Write as _;
            let _ = write!(line, ",\"error\":{{\"code\":{code},\"message\":");
            push_text(&mut line, message);
            line.push('}');
        }
    }
    line.push('}');
    line
}

/// The `notifications/cancelled` for one of our requests.
#[must_use]
pub fn encode_cancelled(id: u64, reason: &str) -> String {
    let mut line = String::from(
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":",
    );
    push_number(&mut line, id);
    line.push_str(",\"reason\":");
    push_text(&mut line, reason);
    line.push_str("}}");
    line
}

fn separate(line: &mut String, first: &mut bool) {
    if !std::mem::replace(first, false) {
        line.push(',');
    }
}

fn push_member(line: &mut String, first: &mut bool, name: &str, value: &RawValue) {
    separate(line, first);
    push_text(line, name);
    line.push(':');
    push_raw(line, value);
}

fn push_number(line: &mut String, number: u64) {
    use std::fmt::Write as _;
    let _ = write!(line, "{number}");
}

/// Raw JSON may hold line ends between its tokens (a pretty-printed body), and a line may not.
/// Inside strings JSON has them escaped, so every raw one is white space.
fn push_raw(line: &mut String, value: &RawValue) {
    let text = value.get();
    if text.bytes().any(|byte| byte == b'\n' || byte == b'\r') {
        line.extend(
            text.chars()
                .map(|c| if c == '\n' || c == '\r' { ' ' } else { c }),
        );
    } else {
        line.push_str(text);
    }
}

fn push_text(line: &mut String, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        line.push('"');
        line.push_str(text);
        line.push('"');
    } else {
        line.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(params: Params, meta: Params) -> Request {
        Request {
            method: "tools/call".into(),
            params,
            meta,
            timeout: Duration::ZERO,
            progress: None,
            repeatable: false,
        }
    }

    #[test]
    fn a_request_is_one_line_with_its_payload_untouched() {
        let arguments =
            RawValue::from_string("{\n \"a\": 1.0,\r\n \"a\": 1e400, \"s\":\"x\\ny\"}".into())
                .unwrap();
        let params = Params::default()
            .with_text("name", "say \"hi\"")
            .with("arguments", arguments);
        let meta = Params::default().with_text("traceparent", "00-1-2-01");
        let line = encode_request(7, &request(params, meta), "\"v\":\"2026-07-28\"", true);
        assert_eq!(
            line,
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"say \\\"hi\\\"\",\
             \"arguments\":{  \"a\": 1.0,   \"a\": 1e400, \"s\":\"x\\ny\"},\
             \"_meta\":{\"v\":\"2026-07-28\",\"progressToken\":7,\"traceparent\":\"00-1-2-01\"}}}"
        );
    }

    #[test]
    fn a_request_without_meta_has_none() {
        assert!(
            !encode_request(1, &request(Params::default(), Params::default()), "", false)
                .contains("_meta")
        );
    }

    #[test]
    fn answers_keep_every_byte_of_their_result() {
        let Ok(Incoming::Response(response)) =
            parse(br#"{"id":3,"result":{"x":1.00,"unknown":[1e2]},"extra":1}"#)
        else {
            panic!("a response");
        };
        assert_eq!(response.id, Some(3));
        assert_eq!(
            response.outcome.unwrap().get(),
            r#"{"x":1.00,"unknown":[1e2]}"#
        );
    }

    #[test]
    fn only_our_own_spelling_of_an_id_is_ours() {
        for foreign in [
            "\"3\"",
            "3.0",
            "null",
            "-3",
            "99999999999999999999999",
            "{}",
        ] {
            let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":{foreign},\"result\":{{}}}}");
            let Ok(Incoming::Response(response)) = parse(text.as_bytes()) else {
                panic!("{foreign}")
            };
            assert_eq!(response.id, None, "{foreign}");
        }
    }

    #[test]
    fn json_that_is_no_json_rpc_is_garbage() {
        for garbage in [
            "",
            "hello",
            "1",
            "{}",
            "[]",
            "{\"level\":\"info\"}",
            "{\"id\":1}",
            "[[{}]]",
            "{\"id\":1,\"result\":",
        ] {
            assert_eq!(
                parse(garbage.as_bytes()).err(),
                Some(NotJsonRpc),
                "{garbage}"
            );
        }
    }

    #[test]
    fn batches_errors_requests_and_notifications_are_told_apart() {
        let batch = br#" [{"id":1,"error":{"code":-32601,"message":"no","data":[1]}},{"id":"a","method":"ping"},{"method":"n\u006ft"}]"#;
        let Ok(Incoming::Batch(messages)) = parse(batch) else {
            panic!("a batch")
        };
        let [
            Incoming::Response(error),
            Incoming::Request(ping),
            Incoming::Notification(note),
        ] = &messages[..]
        else {
            panic!("{messages:?}")
        };
        assert_eq!(error.outcome.as_ref().unwrap_err().code, -32601);
        assert_eq!(ping.id.0.get(), "\"a\"");
        assert_eq!(note.method, "not");
    }

    #[test]
    fn a_cancellation_and_an_answer_are_well_formed() {
        let id = RequestId(RawValue::from_string("\"q\"".into()).unwrap());
        assert_eq!(
            encode_answer(&id, &Err((-32601, "no".into()))),
            r#"{"jsonrpc":"2.0","id":"q","error":{"code":-32601,"message":"no"}}"#
        );
        assert!(matches!(
            parse(encode_cancelled(4, "late").as_bytes()),
            Ok(Incoming::Notification(_))
        ));
    }
}
