//! Frames as text, written by hand around raw bytes.
//!
//! The payload stands before what is known only when the frame is sent (`seq`, `ts`, the connection), so
//! that a [`Draft`] made once is sealed without being copied.

use std::fmt::Write as _;

use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::value::RawValue;

use super::decode::{BadFrame, parse_payload};
use super::parts::pieces;
use super::{Auth, CallResult, Chunk, Frame, Invoke, Kind, Part, Payload};
use crate::tunnel::id::{AgentId, ReqId};
use crate::tunnel::limits::WHOLE_BYTES;

/// Room for what follows the payload.
const TAIL_BYTES: usize = 112;

/// A frame that waits for its turn; what is missing is said when it is sent.
#[derive(Debug, Clone)]
pub struct Draft {
    kind: Kind,
    req_id: Option<ReqId>,
    text: String,
}

impl Draft {
    /// Makes the frame of a payload, or its frames when it is too large for one.
    pub fn write(
        agent_id: &AgentId,
        req_id: Option<&ReqId>,
        payload: &Payload,
        mut put: impl FnMut(Self),
    ) {
        let (mut text, start) = opened(agent_id, req_id, payload.kind(), size_of(payload));
        push_payload(&mut text, payload);
        if text.len() - start < WHOLE_BYTES {
            put(Self::of(payload.kind(), req_id, text));
        } else {
            Self::write_parts(agent_id, req_id, (payload.kind(), &text[start..]), put);
        }
    }

    /// As [`Draft::write`], from a payload that is text already.
    pub fn write_text(
        agent_id: &AgentId,
        req_id: Option<&ReqId>,
        (kind, payload): (Kind, &str),
        mut put: impl FnMut(Self),
    ) {
        if payload.len() < WHOLE_BYTES {
            let (mut text, _) = opened(agent_id, req_id, kind, payload.len());
            text.push_str(payload);
            put(Self::of(kind, req_id, text));
        } else {
            Self::write_parts(agent_id, req_id, (kind, payload), put);
        }
    }

    fn write_parts(
        agent_id: &AgentId,
        req_id: Option<&ReqId>,
        (kind, payload): (Kind, &str),
        mut put: impl FnMut(Self),
    ) {
        for part in pieces(payload) {
            let (mut text, _) = opened(agent_id, req_id, kind, part.data.len() * 2);
            push_part(&mut text, &part);
            put(Self::of(kind, req_id, text));
        }
    }

    fn of(kind: Kind, req_id: Option<&ReqId>, text: String) -> Self {
        Self {
            kind,
            req_id: req_id.cloned(),
            text,
        }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its call, if it is about one.
    #[must_use]
    pub fn req_id(&self) -> Option<&ReqId> {
        self.req_id.as_ref()
    }

    /// Its length, in bytes; sealing adds about a hundred.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.text.len()
    }

    /// The finished frame.
    #[must_use]
    pub fn seal(self, conn_session_id: Option<&str>, seq: u64, ts: u64) -> String {
        let mut text = self.text;
        if let Some(id) = conn_session_id {
            text.push_str(",\"conn_session_id\":");
            push_text(&mut text, id);
        }
        let _ = write!(text, ",\"seq\":{seq},\"ts\":{ts}}}");
        text
    }
}

impl Frame {
    /// The frame as text. A payload too large for one frame makes one that is refused: see [`Draft::write`].
    #[must_use]
    pub fn encode(&self) -> String {
        let size = size_of(&self.payload);
        let kind = self.payload.kind();
        let (mut text, _) = opened(&self.agent_id, self.req_id.as_ref(), kind, size);
        push_payload(&mut text, &self.payload);
        Draft::of(kind, self.req_id.as_ref(), text).seal(
            self.conn_session_id.as_deref(),
            self.seq,
            self.ts,
        )
    }
}

/// A payload as JSON text, such as a spool keeps.
#[must_use]
pub fn payload_text(payload: &Payload) -> String {
    let mut text = String::with_capacity(size_of(payload));
    push_payload(&mut text, payload);
    text
}

/// Reads a payload of its JSON text.
///
/// # Errors
/// [`BadFrame`] when it is none of that type.
pub fn read_payload(kind: Kind, text: &str) -> Result<Payload, BadFrame> {
    parse_payload(kind, text)
}

/// The envelope up to its payload, and where that begins.
fn opened(
    agent_id: &AgentId,
    req_id: Option<&ReqId>,
    kind: Kind,
    payload_bytes: usize,
) -> (String, usize) {
    let ids = agent_id.len() + req_id.map_or(0, |id| id.len());
    let mut text = String::with_capacity(72 + ids + payload_bytes + TAIL_BYTES);
    text.push_str("{\"v\":1,\"type\":\"");
    text.push_str(kind.as_str());
    text.push_str("\",\"agent_id\":\"");
    text.push_str(agent_id);
    if let Some(req_id) = req_id {
        text.push_str("\",\"req_id\":\"");
        text.push_str(req_id);
    }
    text.push_str("\",\"payload\":");
    let start = text.len();
    (text, start)
}

/// About how long the payload will be.
fn size_of(payload: &Payload) -> usize {
    let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| raw.get().len());
    match payload {
        Payload::Invoke(invoke) => invoke.params.get().len() + invoke.isolation_key.len() + 192,
        Payload::Result(result) => {
            let details = result.error.as_ref();
            let details = details.map_or(0, |error| raw(&error.details) + error.message.len() + 64);
            raw(&result.result_json) + details + 64
        }
        Payload::Chunk(chunk) => chunk.data.len() + 96,
        Payload::Part(_, part) => part.data.len() * 2,
        _ => 128,
    }
}

fn push_payload(text: &mut String, payload: &Payload) {
    match payload {
        Payload::Invoke(invoke) => push_invoke(text, invoke),
        Payload::Result(result) => push_result(text, result),
        Payload::Chunk(chunk) => push_chunk(text, chunk),
        Payload::ResultAck | Payload::Ping | Payload::Pong => text.push_str("{}"),
        Payload::Auth(auth) => push_auth(text, auth),
        Payload::Part(_, part) => push_part(text, part),
        Payload::InvokeAck(ack) => push_json(text, ack),
        Payload::Hello(hello) => push_json(text, hello),
        Payload::HelloAck(ack) => push_json(text, ack),
        Payload::Tools(tools) => push_json(text, tools),
        Payload::Cancel(cancel) => push_json(text, cancel),
        Payload::CancelAck(ack) => push_json(text, ack),
        Payload::Goodbye(goodbye) => push_json(text, goodbye),
        Payload::Configure(configure) => push_json(text, configure),
    }
}

/// For the types that are rare. None of them can fail to be written: their keys are texts.
fn push_json(text: &mut String, payload: &impl Serialize) {
    text.push_str(&serde_json::to_string(payload).unwrap_or_else(|_| "{}".to_owned()));
}

fn push_invoke(text: &mut String, invoke: &Invoke) {
    text.push_str("{\"server\":");
    push_text(text, &invoke.server);
    text.push_str(",\"method\":\"");
    text.push_str(invoke.method.as_str());
    text.push_str("\",\"params\":");
    text.push_str(invoke.params.get());
    let _ = write!(
        text,
        ",\"timeout_ms\":{},\"deadline_ts\":{},\"stream\":{{\"enabled\":{}}},\"isolation_key\":",
        invoke.timeout_ms, invoke.deadline_ts, invoke.stream.enabled
    );
    push_text(text, &invoke.isolation_key);
    text.push('}');
}

fn push_result(text: &mut String, result: &CallResult) {
    text.push_str(if result.ok {
        "{\"ok\":true"
    } else {
        "{\"ok\":false"
    });
    if let Some(code) = result.exit_code {
        let _ = write!(text, ",\"exit_code\":{code}");
    }
    if result.canceled {
        text.push_str(",\"canceled\":true");
    }
    if let Some(raw) = &result.result_json {
        text.push_str(",\"result_json\":");
        text.push_str(raw.get());
    }
    if let Some(error) = &result.error {
        text.push_str(",\"error\":");
        push_json(text, error);
    }
    text.push('}');
}

fn push_chunk(text: &mut String, chunk: &Chunk) {
    text.push_str("{\"channel\":\"");
    text.push_str(chunk.channel.as_str());
    text.push_str("\",\"data\":");
    push_text(text, &chunk.data);
    let _ = write!(
        text,
        ",\"dropped_bytes\":{},\"dropped_lines\":{}}}",
        chunk.dropped_bytes, chunk.dropped_lines
    );
}

fn push_auth(text: &mut String, auth: &Auth) {
    text.push_str("{\"token\":");
    push_text(text, auth.token.expose_secret());
    if let Some(print) = &auth.device_fingerprint {
        text.push_str(",\"device_fingerprint\":");
        push_text(text, print);
    }
    text.push('}');
}

fn push_part(text: &mut String, part: &Part) {
    let _ = write!(
        text,
        "{{\"part\":{},\"parts\":{},\"data\":",
        part.part, part.parts
    );
    push_text(text, &part.data);
    text.push('}');
}

/// A JSON string. Runs that need no escape are copied whole.
fn push_text(text: &mut String, value: &str) {
    text.push('"');
    let mut rest = value;
    while let Some(at) = rest
        .bytes()
        .position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        text.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            other => {
                let _ = write!(text, "\\u{other:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
    text.push('"');
}
