//! One open connection to a server, whatever carries it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::error::{CloseReason, ConnectError, RequestError};
use crate::spec::{Era, ServerSpec};
use crate::wire::{Notification, Request, RequestId, ServerRequest};

/// What the opener of a connection knows and wants.
#[derive(Debug)]
pub struct ConnectOptions {
    /// The era this server spoke last time; tried first, re-probed when it fails.
    pub known_era: Option<Era>,
    /// Gets everything the server sends that belongs to no single request. Bounded: a full channel
    /// loses notifications (counted); a server request that finds it full is declined at once.
    pub inbound: mpsc::Sender<Inbound>,
}

/// What a server sends on its own.
#[derive(Debug)]
pub enum Inbound {
    /// A notification: list_changed, resources/updated, message, …
    Notification(Notification),
    /// A request; answer it with [`Connection::answer`].
    Request(ServerRequest),
}

/// What the handshake told.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The era spoken on this connection.
    pub era: Era,
    /// The protocol revision, such as `2025-11-25`.
    pub protocol_version: String,
    /// Raw `serverInfo`, if told.
    pub server_info: Option<Arc<RawValue>>,
    /// Raw `capabilities`, `{}` when not told.
    pub capabilities: Arc<RawValue>,
    /// The server's `instructions`; untrusted text.
    pub instructions: Option<String>,
    /// `Mcp-Session-Id`, where an old HTTP server gave one. Secret: never shown whole.
    pub mcp_session_id: Option<String>,
    /// `stdio`, `streamable_http` or `legacy_sse`: what really carries it after fallbacks.
    pub transport: &'static str,
}

/// How firmly a child's process tree is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Supervision {
    /// A supervisor that is subreaper of a PID namespace: nothing can escape.
    PidNamespace,
    /// A supervisor that is subreaper: double-forked grandchildren come back to it and are killed.
    Subreaper,
    /// Only the process group is killed.
    ProcessGroup,
}

/// The operating system's view of a stdio server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProcessFacts {
    /// The server's process id.
    pub pid: u32,
    /// Its process group.
    pub pgid: u32,
    /// How firmly its tree is held.
    pub supervision: Supervision,
    /// Resident memory of the server's tree, in bytes, when it could be read.
    pub rss_bytes: Option<u64>,
}

/// Opens a connection and does the handshake of the era found.
///
/// # Errors
/// [`ConnectError`]; every step has the deadline of [`crate::Timeouts`].
pub async fn connect(
    spec: &ServerSpec,
    options: ConnectOptions,
) -> Result<Arc<Connection>, ConnectError> {
    let _ = (spec, options);
    todo!("transports")
}

/// One open connection. Shared by reference counting; closed by [`Connection::close`] or by dropping the last handle.
#[derive(Debug)]
pub struct Connection {}

impl Connection {
    /// What the handshake told.
    #[must_use]
    pub fn info(&self) -> &PeerInfo {
        todo!("transports")
    }

    /// Sends a request and waits for its raw `result`. Dropping the future cancels it upstream.
    ///
    /// # Errors
    /// [`RequestError`]; never waits longer than the request's timeout.
    pub async fn request(&self, request: Request) -> Result<Box<RawValue>, RequestError> {
        let _ = request;
        todo!("transports")
    }

    /// Answers a request of the server: `Ok` raw result, `Err` JSON-RPC code and message.
    pub async fn answer(&self, id: RequestId, outcome: Result<Box<RawValue>, (i64, String)>) {
        let _ = (id, outcome);
        todo!("transports")
    }

    /// Resolves when the connection ended, with the reason. May be awaited by several.
    pub async fn closed(&self) -> CloseReason {
        todo!("transports")
    }

    /// Closes: in-flight requests fail, the process tree or socket is gone when this returns.
    pub async fn close(&self) {
        todo!("transports")
    }

    /// Checks that the server still answers (`ping` on legacy, `server/discover` on modern).
    ///
    /// # Errors
    /// As [`Connection::request`]. An unknown method is an answer.
    pub async fn ping(&self, timeout: Duration) -> Result<(), RequestError> {
        let _ = timeout;
        todo!("transports")
    }

    /// Process facts, for stdio.
    #[must_use]
    pub fn process(&self) -> Option<ProcessFacts> {
        todo!("transports")
    }

    /// The last lines of stderr (at most 200 lines, 64 KiB), oldest first; empty where there is none.
    #[must_use]
    pub fn stderr_tail(&self) -> Vec<String> {
        todo!("transports")
    }

    /// Notifications lost to full channels, and lines that were no JSON-RPC.
    #[must_use]
    pub fn dropped_notifications(&self) -> u64 {
        todo!("transports")
    }

    /// Lines or events that were no JSON-RPC, or answered an id nobody waits for.
    #[must_use]
    pub fn garbage_frames(&self) -> u64 {
        todo!("transports")
    }
}
