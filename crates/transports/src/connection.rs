//! One open connection to a server, whatever carries it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::carrier::{Carrier, Kind};
use crate::error::{CloseReason, RequestError};
use crate::handshake;
use crate::listen::{Listener, Lists};
use crate::sandbox::SandboxFacts;
use crate::spec::Era;
use crate::wire::{self, Notification, Params, Request, RequestId, ServerRequest};

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
    /// A notification: `list_changed`, `resources/updated`, message, …
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
    /// `stdio`, `streamable_http`, `legacy_sse`, `in_process` or `tunnel`: what really carries it after fallbacks.
    pub transport: &'static str,
}

/// How firmly a child's process tree is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Supervision {
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
    /// What it was to be kept from, and what it is kept from.
    pub sandbox: SandboxFacts,
    /// Resident memory of the server's tree, in bytes, when it could be read.
    pub rss_bytes: Option<u64>,
}

/// How long a heartbeat's or notification's line may wait to be written.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// One open connection. Shared by reference counting; closed by [`Connection::close`] or by dropping the last handle.
#[derive(Debug)]
pub struct Connection {
    pub(crate) carrier: Arc<Carrier>,
    info: PeerInfo,
    close_grace: Duration,
    /// What hears a modern server that has something to tell. Holds the carrier as well.
    pub(crate) listener: Mutex<Option<Box<Listener>>>,
    /// It holds the carrier; the process ends with the last handle.
    _watcher: Option<AbortOnDropHandle<()>>,
}

impl Connection {
    /// A connection whose handshake is done. Listens to a modern server that has something to tell.
    pub(crate) fn new(
        carrier: Arc<Carrier>,
        info: PeerInfo,
        close_grace: Duration,
        watcher: Option<AbortOnDropHandle<()>>,
    ) -> Self {
        let lists = match info.era {
            // What an agent tells needs no stream of its own.
            Era::Modern if matches!(carrier.kind, Kind::Tunnel(_)) => Lists::default(),
            Era::Modern => Lists::offered(&info.capabilities),
            Era::Legacy => Lists::default(),
        };
        let listener =
            (!lists.is_empty()).then(|| Box::new(Listener::start(Arc::clone(&carrier), lists)));
        Self {
            carrier,
            info,
            listener: Mutex::new(listener),
            close_grace,
            _watcher: watcher,
        }
    }

    /// What the handshake told.
    #[must_use]
    pub fn info(&self) -> &PeerInfo {
        &self.info
    }

    /// Sends a request and waits for its raw `result`. Dropping the future cancels it upstream.
    ///
    /// # Errors
    /// [`RequestError`]; never waits longer than the request's timeout.
    pub async fn request(&self, request: Request) -> Result<Box<RawValue>, RequestError> {
        let meta = handshake::meta_of(self.info.era, self.carrier.wishes.log_level());
        self.carrier.exchange(&request, meta).await
    }

    /// Answers a request of the server: `Ok` raw result, `Err` JSON-RPC code and message.
    pub async fn answer(&self, id: RequestId, outcome: Result<Box<RawValue>, (i64, String)>) {
        // A server that is gone needs no answer.
        let _ = self
            .carrier
            .notify(wire::encode_answer(&id, &outcome), NOTIFY_TIMEOUT)
            .await;
    }

    /// Sends a notification, such as `notifications/roots/list_changed` to a legacy server.
    ///
    /// # Errors
    /// [`RequestError`] when it could not be sent.
    pub async fn notify(&self, method: &str, params: &Params) -> Result<(), RequestError> {
        let line = wire::encode_notification(method, params);
        self.carrier.notify(line, NOTIFY_TIMEOUT).await
    }

    /// Resolves when the connection ended, with the reason. May be awaited by several.
    pub async fn closed(&self) -> CloseReason {
        self.carrier.closed().await
    }

    /// Closes: in-flight requests fail, the process tree or socket is gone when this returns.
    pub async fn close(&self) {
        let listener = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(listener) = listener {
            listener.stop().await;
        }
        self.carrier.close(self.close_grace).await;
    }

    /// Checks that the server still answers (`ping` on legacy, `server/discover` on modern).
    ///
    /// # Errors
    /// As [`Connection::request`]. An unknown method is an answer.
    pub async fn ping(&self, timeout: Duration) -> Result<(), RequestError> {
        let method = if self.info.era == Era::Modern {
            "server/discover"
        } else {
            "ping"
        };
        let request = Request {
            repeatable: true,
            ..Request::new(method, timeout)
        };
        match self.request(request).await {
            Ok(_) | Err(RequestError::Rpc { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Process facts, for stdio.
    #[must_use]
    pub fn process(&self) -> Option<ProcessFacts> {
        match &self.carrier.kind {
            Kind::Stdio(stdio) => Some(stdio.facts()),
            Kind::Pipe(_) | Kind::Http(_) | Kind::Sse(_) | Kind::Tunnel(_) => None,
        }
    }

    /// The last lines of stderr (at most 200 lines, 64 KiB), oldest first; empty where there is none.
    #[must_use]
    pub fn stderr_tail(&self) -> Vec<String> {
        match &self.carrier.kind {
            Kind::Stdio(stdio) => stdio.stderr_tail(),
            Kind::Pipe(_) | Kind::Http(_) | Kind::Sse(_) | Kind::Tunnel(_) => Vec::new(),
        }
    }

    /// Notifications lost to full channels.
    #[must_use]
    pub fn dropped_notifications(&self) -> u64 {
        self.carrier.counters().0
    }

    /// Lines or events that were no JSON-RPC, or answered an id nobody waits for.
    #[must_use]
    pub fn garbage_frames(&self) -> u64 {
        self.carrier.counters().1
    }
}
