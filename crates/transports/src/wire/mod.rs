//! The JSON-RPC envelope. Parses `id`, `method`, `params`, `result`, `error` and nothing inside them.

mod encode;
mod head;
mod log_level;
mod params;
mod progress;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

pub use encode::{
    EraMeta, encode_answer, encode_cancelled, encode_notification, encode_params, encode_request,
};
pub use head::ResultHead;
pub use log_level::{LogLevel, UnknownLogLevel};
pub use params::{Params, raw_text};
pub use progress::with_progress_token;

/// A JSON-RPC id as the peer wrote it: kept raw so that `1`, `1.0` and `"1"` stay apart.
#[derive(Debug, Clone)]
pub struct RequestId(pub Box<RawValue>);

/// One request to a server.
#[derive(Debug)]
pub struct Request {
    /// `tools/call`, `tools/list`, …
    pub method: Cow<'static, str>,
    /// Members of `params` but for `_meta`.
    pub params: Params,
    /// Members of `_meta` the caller wants sent (`traceparent`, …). Those that are the protocol's own
    /// (`progressToken`, the revision, the client, its capabilities, the log level) are the transport's
    /// to say and are left out; of two members of one name the first is sent.
    pub meta: Params,
    /// The deadline, from now. The upstream is told of the cancellation when it passes.
    pub timeout: Duration,
    /// Gets this request's progress notifications and, on streamable HTTP, whatever else comes on the
    /// request's own stream but news that concern every caller (`list_changed`, `resources/updated`):
    /// in order and before the answer. They carry our progress token, see [`with_progress_token`].
    /// A full channel loses notifications, counted in [`crate::Connection::dropped_notifications`].
    pub progress: Option<mpsc::Sender<Notification>>,
    /// Set when `progress` is also to get what the server logs meanwhile and names no request with, where requests share
    /// a stream: in order and before the answer. Counts what the full channel lost, instead of
    /// [`crate::Connection::dropped_notifications`].
    pub losses: Option<Arc<AtomicU64>>,
    /// Gets what a legacy server asks on this request's own HTTP stream (but a `ping`), instead of
    /// [`crate::Inbound::Request`]; answer with [`crate::Connection::answer`]. A request that finds the
    /// channel full or closed is declined at once. Where all requests share a stream, it is not used.
    pub asks: Option<mpsc::Sender<ServerRequest>>,
    /// What this request's client can do, told to a modern server in place of "nothing". A legacy
    /// server was told once, by the handshake.
    pub client_capabilities: Option<Arc<RawValue>>,
    /// The least log level a modern server may send for this request, in place of the connection's
    /// ([`crate::Connection::set_log_level`]).
    pub log_level: Option<LogLevel>,
    /// Set when sending twice does no harm (lists, reads, tools marked read-only or idempotent):
    /// only these are sent again after a legacy HTTP session was found dead.
    pub repeatable: bool,
    /// The ledger's name of the call. Through a tunnel it becomes the `req_id`, and the result is
    /// acknowledged to the agent only when [`crate::tunnel::bridge::Agent::settled`] says that it is
    /// kept; without one the carrier makes a name and acknowledges by itself. Not used elsewhere.
    pub call_id: Option<Arc<str>>,
}

impl Request {
    /// A request without parameters that nothing else is known of.
    #[must_use]
    pub fn new(method: impl Into<Cow<'static, str>>, timeout: Duration) -> Self {
        Self {
            method: method.into(),
            params: Params::default(),
            meta: Params::default(),
            timeout,
            progress: None,
            losses: None,
            asks: None,
            client_capabilities: None,
            log_level: None,
            repeatable: false,
            call_id: None,
        }
    }
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
    // A list would be taken for the members in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(NotJsonRpc);
    }
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

#[cfg(test)]
mod tests;
