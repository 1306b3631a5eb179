//! What the pump has to know of a client's line; the line itself is passed on as it came. Pure.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Where a modern request says which revision it speaks.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// How a header value that is not plain ASCII begins and ends.
const SENTINEL: (&str, &str) = ("=?base64?", "?=");

/// A request's id as it is written.
pub(crate) type Id = String;

/// One line of the client.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// As it came.
    pub(crate) line: Bytes,
    /// What it is.
    pub(crate) kind: Kind,
    /// The revision a modern request names in its `_meta`.
    pub(crate) version: Option<String>,
    /// The tool, prompt, resource or task it is about.
    pub(crate) name: Option<String>,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Wants one answer.
    Request {
        /// Its id.
        id: Id,
        /// Its method.
        method: String,
    },
    /// Wants none.
    Notification {
        /// Its method.
        method: String,
        /// The request that `notifications/cancelled` is about.
        about: Option<Id>,
    },
    /// Answers a request of the server.
    Answer,
    /// Several of them, as revision 2025-03-26 allows; the ids of those that want an answer.
    Batch(Vec<Id>),
}

/// Why a line is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoMessage {
    /// It is no JSON.
    #[error("the line is no JSON: {0}")]
    Syntax(serde_json::Error),
    /// It is JSON, but no JSON-RPC.
    #[error("the line is no JSON-RPC message")]
    Shape,
}

/// The envelope; what is inside stays as it is.
#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// The parameters the pump looks at, whatever else there is.
#[derive(Debug, Default, Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, rename = "taskId")]
    task_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no JSON-RPC message.
    pub(crate) fn read(line: Vec<u8>) -> Result<Self, NoMessage> {
        let text = std::str::from_utf8(&line)
            .map_err(|error| NoMessage::Syntax(serde::de::Error::custom(error)))?;
        if text.trim_start().starts_with('[') {
            let kind = Kind::Batch(batch(text)?);
            return Ok(Self {
                line: line.into(),
                kind,
                version: None,
                name: None,
            });
        }
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(why_not)?;
        let params: Params<'_> = envelope
            .params
            .and_then(|params| serde_json::from_str(params.get()).ok())
            .unwrap_or_default();
        let kind = kind(&envelope, &params)?;
        let version = params.meta.and_then(version_in);
        let name = match &kind {
            Kind::Request { method, .. } => name(method, &params),
            _ => None,
        };
        Ok(Self {
            kind,
            version,
            name,
            line: line.into(),
        })
    }

    /// The requests in it that want an answer.
    #[must_use]
    pub(crate) fn ids(&self) -> &[Id] {
        match &self.kind {
            Kind::Request { id, .. } => std::slice::from_ref(id),
            Kind::Batch(ids) => ids,
            Kind::Notification { .. } | Kind::Answer => &[],
        }
    }

    /// Its method, if it has one.
    #[must_use]
    pub(crate) fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method, .. } => Some(method),
            Kind::Answer | Kind::Batch(_) => None,
        }
    }

    /// The arguments of a tool call, read anew: only tools with mirrored parameters need them.
    #[must_use]
    pub(crate) fn arguments(&self) -> Option<serde_json::Value> {
        let message: HashMap<&str, &RawValue> = serde_json::from_slice(&self.line).ok()?;
        let params: HashMap<&str, &RawValue> =
            serde_json::from_str(message.get("params")?.get()).ok()?;
        serde_json::from_str(params.get("arguments")?.get()).ok()
    }
}

/// A value as an HTTP header may hold it.
#[must_use]
pub(crate) fn header_value(text: &str) -> String {
    let (begin, end) = SENTINEL;
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let padded = text.trim() != text;
    let alike = text.starts_with(begin) && text.ends_with(end);
    if plain && !padded && !alike {
        text.to_owned()
    } else {
        format!("{begin}{}{end}", STANDARD.encode(text))
    }
}

fn kind(envelope: &Envelope<'_>, params: &Params<'_>) -> Result<Kind, NoMessage> {
    let id = envelope.id.map(|id| id.get().to_owned());
    match (&envelope.method, id) {
        (Some(method), Some(id)) => Ok(Kind::Request {
            id,
            method: method.clone().into_owned(),
        }),
        (Some(method), None) => Ok(Kind::Notification {
            about: (method == "notifications/cancelled")
                .then(|| params.request_id.map(|id| id.get().to_owned()))
                .flatten(),
            method: method.clone().into_owned(),
        }),
        (None, Some(_)) => Ok(Kind::Answer),
        (None, None) => Err(NoMessage::Shape),
    }
}

fn batch(text: &str) -> Result<Vec<Id>, NoMessage> {
    let messages: Vec<Envelope<'_>> = serde_json::from_str(text).map_err(why_not)?;
    let requests = messages.iter().filter(|message| message.method.is_some());
    Ok(requests
        .filter_map(|request| Some(request.id?.get().to_owned()))
        .collect())
}

fn why_not(error: serde_json::Error) -> NoMessage {
    if error.is_data() {
        NoMessage::Shape
    } else {
        NoMessage::Syntax(error)
    }
}

fn version_in(meta: &RawValue) -> Option<String> {
    let meta: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(meta.get()).ok()?;
    serde_json::from_str(meta.get(VERSION_KEY)?.get()).ok()
}

/// What `Mcp-Name` repeats.
fn name(method: &str, params: &Params<'_>) -> Option<String> {
    let named = match method {
        "tools/call" | "prompts/get" => params.name,
        "resources/read" => params.uri,
        "tasks/get" | "tasks/update" | "tasks/cancel" => params.task_id,
        _ => None,
    };
    serde_json::from_str(named?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Message, NoMessage> {
        Message::read(line.as_bytes().to_vec())
    }

    #[test]
    fn a_line_is_known_by_its_envelope() {
        let request = read(r#"{"jsonrpc":"2.0","id":"a\"1","method":"ping"}"#).unwrap();
        assert_eq!(
            request.kind,
            Kind::Request {
                id: r#""a\"1""#.to_owned(),
                method: "ping".to_owned()
            }
        );
        let cancelled = read(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#,
        )
        .unwrap();
        assert_eq!(
            cancelled.kind,
            Kind::Notification {
                method: "notifications/cancelled".to_owned(),
                about: Some("7".to_owned())
            }
        );
        let answer = read(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#).unwrap();
        assert_eq!(answer.kind, Kind::Answer);
        let batch = read(r#"[{"id":1,"method":"a"},{"method":"b"},{"id":2,"result":{}}]"#).unwrap();
        assert_eq!(batch.ids(), ["1"]);
    }

    #[test]
    fn a_modern_request_says_its_version_and_name() {
        let call = read(r#"{"id":1,"method":"tools/call","params":{"name":"caf\u00e9","arguments":{"a":1},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","x":{}}}}"#).unwrap();
        assert_eq!(call.version.as_deref(), Some("2026-07-28"));
        assert_eq!(call.name.as_deref(), Some("café"));
        assert_eq!(call.arguments(), Some(serde_json::json!({"a": 1})));
        let read_it =
            read(r#"{"id":1,"method":"resources/read","params":{"uri":"x://y","name":"n"}}"#)
                .unwrap();
        assert_eq!(read_it.name.as_deref(), Some("x://y"));
        let odd = read(r#"{"id":1,"method":"tools/call","params":{"name":5,"_meta":[]}}"#).unwrap();
        assert_eq!((odd.name, odd.version), (None, None));
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        assert!(matches!(read("{\"id\":1,"), Err(NoMessage::Syntax(_))));
        assert!(matches!(read("5"), Err(NoMessage::Shape)));
        assert!(matches!(read("{}"), Err(NoMessage::Shape)));
        assert!(matches!(
            read(r#"{"id":1,"method":"a","method":"b"}"#),
            Err(NoMessage::Shape)
        ));
        assert!(matches!(
            Message::read(b"{\"id\":\"\xff\"}".to_vec()),
            Err(NoMessage::Syntax(_))
        ));
    }

    #[test]
    fn header_values_are_encoded_as_the_specification_says() {
        for (plain, encoded) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(header_value(plain), encoded);
        }
    }
}
