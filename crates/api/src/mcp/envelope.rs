//! One message of a client, read once: what policy decides on and what is forwarded are the same parse.
//!
//! Strict where a second reader could read something else (duplicate members, depth), raw everywhere else.
//! Knows no era and no server.

use std::borrow::Cow;

use serde_json::value::RawValue;
use transports::Params;

use super::parts::Envelope;
use super::problem::RpcFault;
use super::strict;

/// Most messages of one batch; clients that batch at all send a handful.
pub(super) const MAX_BATCH: usize = 64;
/// Longest id as written; it is echoed on every message of the exchange.
const MAX_ID_BYTES: usize = 256;

/// A JSON-RPC id as the client wrote it: a string or an integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Id(Box<str>);

impl Id {
    /// As it stands in JSON.
    pub(super) fn raw(&self) -> &str {
        &self.0
    }

    /// Reads one; `None` for null, fractions, and what no peer would have to echo.
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // Beyond 64 bits a JSON reader rounds, and the echo would be another id.
        let integer = integer && (text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok());
        let known = integer || (text.starts_with('"') && text.len() <= MAX_ID_BYTES);
        known.then(|| Self(Box::from(text)))
    }

    /// An id of ours.
    pub(super) fn text(text: &str) -> Self {
        Self(Box::from(transports::wire::raw_text(text).get()))
    }
}

/// What a body holds.
#[derive(Debug)]
pub(super) enum Incoming {
    /// One message.
    One(Message),
    /// A batch, which only some revisions know; each member stands for itself.
    Batch(Vec<Result<Message, Refusal>>),
}

/// One message.
#[derive(Debug)]
pub(super) enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification(Call),
    /// Answers a request of ours.
    Answer(Answer),
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    /// To be echoed.
    pub(super) id: Id,
    /// What is asked.
    pub(super) call: Call,
}

/// A method and its parameters.
#[derive(Debug)]
pub(super) struct Call {
    /// `tools/call`, …
    pub(super) method: Cow<'static, str>,
    /// Members of `params` but for `_meta`.
    pub(super) params: Params,
    /// `_meta`.
    pub(super) meta: Meta,
}

/// `_meta`, with the protocol's own members taken out of the rest.
#[derive(Debug, Default)]
pub(super) struct Meta {
    /// `io.modelcontextprotocol/protocolVersion`.
    pub(super) version: Option<String>,
    /// `io.modelcontextprotocol/clientCapabilities`, an object.
    pub(super) capabilities: Option<Box<RawValue>>,
    /// `io.modelcontextprotocol/logLevel`.
    pub(super) log_level: Option<String>,
    /// `progressToken`, a string or an integer.
    pub(super) progress_token: Option<Box<RawValue>>,
    /// `traceparent`.
    pub(super) traceparent: Option<String>,
    /// `tracestate`.
    pub(super) tracestate: Option<String>,
    /// Everything else, to be sent on.
    pub(super) rest: Params,
}

/// A client's answer to a request of ours.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which request.
    pub(super) id: Id,
    /// Its result or its error.
    pub(super) outcome: Result<Box<RawValue>, transports::wire::RpcError>,
}

/// A message that is refused before anything is done, and the id it had, if that could be read.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) id: Option<Id>,
    pub(super) fault: RpcFault,
}

impl From<RpcFault> for Refusal {
    fn from(fault: RpcFault) -> Self {
        Self { id: None, fault }
    }
}

/// Reads a body.
pub(super) fn read(bytes: &[u8]) -> Result<Incoming, Refusal> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'[') {
        return message(bytes).map(Incoming::One);
    }
    let members: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
    if members.is_empty() || members.len() > MAX_BATCH {
        let detail = format!("a batch holds 1 to {MAX_BATCH} messages");
        return Err(RpcFault::invalid_request(detail).into());
    }
    let read = members
        .iter()
        .map(|member| message(member.get().as_bytes()));
    Ok(Incoming::Batch(read.collect()))
}

fn broken(error: &serde_json::Error) -> Refusal {
    let (line, column) = (error.line(), error.column());
    if error.is_data() {
        return RpcFault::invalid_request("the body is no JSON-RPC message").into();
    }
    RpcFault::parse_error(format!("not valid JSON: line {line}, column {column}")).into()
}

fn message(bytes: &[u8]) -> Result<Message, Refusal> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
    // The id first: a refusal should carry it.
    let (named, id) = (
        envelope.id.is_some(),
        envelope.id.as_deref().and_then(Id::read),
    );
    let refuse = |fault: RpcFault| Refusal {
        id: id.clone(),
        fault,
    };
    if let Some(twice) = envelope.twice {
        let detail = format!("`{twice}` stands more than once");
        return Err(refuse(RpcFault::invalid_request(detail)));
    }
    if envelope.jsonrpc.as_deref() != Some("2.0") {
        return Err(refuse(RpcFault::invalid_request(
            "`jsonrpc` must be \"2.0\"",
        )));
    }
    let Some(method) = envelope.method else {
        return answer(id, envelope.result, envelope.error);
    };
    if envelope.result.is_some() || envelope.error.is_some() {
        let detail = "a message is either a request or an answer";
        return Err(refuse(RpcFault::invalid_request(detail)));
    }
    let call = call(method, envelope.params.as_deref()).map_err(refuse)?;
    match id {
        None if !named => Ok(Message::Notification(call)),
        Some(id) => Ok(Message::Request(Request { id, call })),
        None => {
            let detail =
                format!("`id` must be an integer or a string of up to {MAX_ID_BYTES} bytes");
            Err(RpcFault::invalid_request(detail).into())
        }
    }
}

fn answer(
    id: Option<Id>,
    result: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
) -> Result<Message, Refusal> {
    let malformed = || RpcFault::invalid_request("neither a request nor an answer");
    let Some(id) = id else {
        return Err(malformed().into());
    };
    let outcome = match (result, error) {
        (Some(result), None) if strict::check(&result) => Ok(result),
        (None, Some(error)) if strict::check(&error) => {
            Err(serde_json::from_str(error.get()).map_err(|_| malformed())?)
        }
        _ => {
            return Err(Refusal {
                id: Some(id),
                fault: malformed(),
            });
        }
    };
    Ok(Message::Answer(Answer { id, outcome }))
}

fn call(method: String, params: Option<&RawValue>) -> Result<Call, RpcFault> {
    let mut call = Call {
        method: Cow::Owned(method),
        params: Params::default(),
        meta: Meta::default(),
    };
    let Some(raw) = params else { return Ok(call) };
    let members = members(raw, "params")?;
    // The arguments of a tool are held against its schema by the broker, which reads them as strictly.
    let by_broker = call.method == "tools/call";
    call.params.0.reserve_exact(members.len());
    for (name, value) in members {
        if name == "_meta" {
            call.meta = meta(&value)?;
            continue;
        }
        let checked_there = by_broker && name == "arguments";
        if !checked_there && !strict::check(&value) {
            return Err(RpcFault::invalid_params(format!(
                "params.{name}: {}",
                strict::WHY
            )));
        }
        call.params.0.push((name, value));
    }
    Ok(call)
}

fn meta(raw: &RawValue) -> Result<Meta, RpcFault> {
    let mut meta = Meta::default();
    for (name, value) in members(raw, "_meta")? {
        if !strict::check(&value) {
            return Err(RpcFault::invalid_params(format!(
                "_meta[{name:?}]: {}",
                strict::WHY
            )));
        }
        // Only prefixed names are the protocol's, but for these three; all others are the client's own.
        match &*name {
            "io.modelcontextprotocol/protocolVersion" => meta.version = Some(text(&name, &value)?),
            "io.modelcontextprotocol/logLevel" => meta.log_level = Some(text(&name, &value)?),
            "io.modelcontextprotocol/clientCapabilities" => {
                meta.capabilities = Some(object(&name, value)?);
            }
            // Names nobody but the one who reads the log.
            "io.modelcontextprotocol/clientInfo" => {}
            "progressToken" => meta.progress_token = Some(token(value)?),
            "traceparent" => meta.traceparent = Some(text(&name, &value)?),
            "tracestate" => meta.tracestate = Some(text(&name, &value)?),
            _ => meta.rest.0.push((name, value)),
        }
    }
    Ok(meta)
}

fn token(value: Box<RawValue>) -> Result<Box<RawValue>, RpcFault> {
    match Id::read(&value) {
        Some(_) => Ok(value),
        None => Err(RpcFault::invalid_params(
            "progressToken must be a string or an integer",
        )),
    }
}

fn text(name: &str, value: &RawValue) -> Result<String, RpcFault> {
    serde_json::from_str(value.get())
        .map_err(|_| RpcFault::invalid_params(format!("_meta[{name:?}] must be a string")))
}

fn object(name: &str, value: Box<RawValue>) -> Result<Box<RawValue>, RpcFault> {
    if value.get().starts_with('{') {
        Ok(value)
    } else {
        Err(RpcFault::invalid_params(format!(
            "_meta[{name:?}] must be an object"
        )))
    }
}

fn members(raw: &RawValue, what: &str) -> Result<strict::Members, RpcFault> {
    strict::object(raw).map_err(|error| {
        // Without the place, which counts from the wrong beginning.
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        RpcFault::invalid_params(format!("{what}: {words}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Message {
        match read(text.as_bytes()) {
            Ok(Incoming::One(message)) => message,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn code(text: &str) -> i64 {
        match read(text.as_bytes()) {
            Err(refusal) => refusal.fault.code,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_call_is_read_with_its_payload_untouched() {
        let text = r#"{"jsonrpc":"2.0","id":"a\u0062","method":"tools/call","params":{"name":"x.y",
            "arguments":{"n":1.00,"deep":[[{"a":1}]]},"task":{"ttl":5},
            "_meta":{"progressToken":7,"x/y":{"z":1},"io.modelcontextprotocol/logLevel":"info",
            "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}}"#;
        let Message::Request(request) = one(text) else {
            panic!("a request")
        };
        assert_eq!(request.id.raw(), r#""a\u0062""#);
        let call = request.call;
        assert_eq!(call.params.get("name").unwrap().get(), r#""x.y""#);
        assert_eq!(
            call.params.get("arguments").unwrap().get(),
            r#"{"n":1.00,"deep":[[{"a":1}]]}"#
        );
        assert_eq!(call.params.get("task").unwrap().get(), r#"{"ttl":5}"#);
        assert!(call.params.get("_meta").is_none());
        assert_eq!(call.meta.progress_token.unwrap().get(), "7");
        assert_eq!(call.meta.log_level.as_deref(), Some("info"));
        assert_eq!(call.meta.rest.0.len(), 1, "{:?}", call.meta.rest);
    }

    #[test]
    fn unprefixed_names_are_the_clients_own() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"protocolVersion":"1",
            "logLevel":7,"clientCapabilities":[],"clientInfo":0,"tracestate":"a=b"}}}"#;
        let Message::Request(request) = one(text) else {
            panic!("a request")
        };
        let meta = request.call.meta;
        assert_eq!((meta.version, meta.log_level), (None, None));
        assert!(meta.capabilities.is_none());
        assert_eq!(meta.tracestate.as_deref(), Some("a=b"));
        let names: Vec<_> = meta.rest.0.iter().map(|(name, _)| &**name).collect();
        let own = [
            "protocolVersion",
            "logLevel",
            "clientCapabilities",
            "clientInfo",
        ];
        assert_eq!(names, own);
    }

    #[test]
    fn ids_are_integers_and_strings_and_nothing_else() {
        for id in ["0", "-7", "18446744073709551615", "\"x\"", "\"\""] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            let Message::Request(request) = one(&text) else {
                panic!("{id}")
            };
            assert_eq!(request.id.raw(), id);
        }
        let long = format!("\"{}\"", "x".repeat(300));
        for id in [
            "null",
            "1.0",
            "1e3",
            "true",
            "{}",
            "[1]",
            "99999999999999999999",
            &long,
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            assert_eq!(code(&text), -32600, "{id}");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (text, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
                -32600,
            ),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#, -32600),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"x","name":"y"}}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"ref":{"name":"x","na\u006de":"y"}}}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"a":1,"a":1}}}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[]}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":3}}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":1.5}}}"#,
                -32602,
            ),
            (r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, -32600),
            (r#"{"id":1,"method":"a"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#,
                -32600,
            ),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, -32600),
            (r#"{"jsonrpc":"2.0","result":{}}"#, -32600),
            ("[]", -32600),
            ("7", -32600),
            ("", -32700),
            ("{", -32700),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"} x"#, -32700),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
        assert_eq!(
            read(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}")
                .unwrap_err()
                .fault
                .code,
            -32700
        );
    }

    #[test]
    fn a_refusal_carries_the_id_when_it_could_be_read() {
        let text = br#"{"jsonrpc":"2.0","id":"k","method":"a","params":[]}"#;
        let refusal = read(text).unwrap_err();
        assert_eq!(refusal.id.unwrap().raw(), "\"k\"");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"x":{deep}}}}}"#);
        assert_eq!(code(&text), -32602);
    }

    #[test]
    fn each_member_of_a_batch_stands_for_itself() {
        let text =
            br#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"n"},{"id":2},
            {"jsonrpc":"2.0","id":"q1","result":{}}]"#;
        let Ok(Incoming::Batch(members)) = read(text) else {
            panic!("a batch")
        };
        assert!(matches!(
            members.as_slice(),
            [
                Ok(Message::Request(_)),
                Ok(Message::Notification(_)),
                Err(_),
                Ok(Message::Answer(_))
            ]
        ));
        let many = format!("[{}1]", "1,".repeat(100));
        assert_eq!(code(&many), -32600);
    }
}
