//! The JSON-RPC envelope. Parses `jsonrpc`, `id`, `method` and nothing else; payloads stay raw.

use std::borrow::Cow;
use std::time::Duration;

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
