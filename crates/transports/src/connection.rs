//! One open connection to a server, whatever carries it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::handshake;
use crate::legacy_sse::SseCarrier;
use crate::pending::Pending;
use crate::pipe::Pipe;
use crate::spec::{Endpoint, Era, EraChoice, ServerSpec};
use crate::stdio::StdioCarrier;
use crate::streamable_http::HttpCarrier;
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
    /// `stdio`, `streamable_http`, `legacy_sse` or `in_process`: what really carries it after fallbacks.
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
    /// Resident memory of the server's tree, in bytes, when it could be read.
    pub rss_bytes: Option<u64>,
}

/// How long a heartbeat's or notification's line may wait to be written.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// What carries messages. Encodes, numbers and hands over; the kinds differ below.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) kind: Kind,
    next_id: AtomicU64,
}

/// The kinds of carrier.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A child process.
    Stdio(Box<StdioCarrier>),
    /// A stream inside this process.
    Pipe(Pipe),
    /// Streamable HTTP.
    Http(Box<HttpCarrier>),
    /// HTTP+SSE of 2024-11-05.
    Sse(Box<SseCarrier>),
}

impl Carrier {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            next_id: AtomicU64::new(1),
        }
    }

    async fn open(spec: &ServerSpec, inbound: mpsc::Sender<Inbound>) -> Result<Self, ConnectError> {
        let kind = match &spec.endpoint {
            Endpoint::Stdio(stdio) => Kind::Stdio(Box::new(
                StdioCarrier::start(stdio, spec.limits, inbound).await?,
            )),
            Endpoint::InProcess(make) => {
                let (reader, writer) = tokio::io::split((make.0)());
                Kind::Pipe(Pipe::start(reader, writer, spec.limits, inbound))
            }
            Endpoint::StreamableHttp(http) => {
                Kind::Http(Box::new(HttpCarrier::new(http, spec, inbound)?))
            }
            Endpoint::LegacySse(http) => {
                Kind::Sse(Box::new(SseCarrier::open(http, spec, inbound).await?))
            }
        };
        Ok(Self::new(kind))
    }

    /// Tells which era and revision the next messages speak; HTTP says so in headers.
    pub(crate) fn speak(&self, era: Era, version: &str) {
        match &self.kind {
            Kind::Http(http) => http.speak(era, version),
            Kind::Stdio(_) | Kind::Pipe(_) | Kind::Sse(_) => {}
        }
    }

    /// Sends a request with the era's `_meta` members and waits for its raw result.
    pub(crate) async fn exchange(
        &self,
        request: &Request,
        meta: &str,
    ) -> Result<Box<RawValue>, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let line = wire::encode_request(id, request, meta, request.progress.is_some());
        match &self.kind {
            Kind::Stdio(stdio) => stdio.pipe.exchange(id, line, request).await,
            Kind::Pipe(pipe) => pipe.exchange(id, line, request).await,
            Kind::Http(http) => http.exchange(id, line, request).await,
            Kind::Sse(sse) => sse.exchange(id, line, request).await,
        }
    }

    /// Sends a message nobody answers.
    pub(crate) async fn notify(&self, line: String, timeout: Duration) -> Result<(), RequestError> {
        match &self.kind {
            Kind::Stdio(stdio) => stdio.pipe.send(line, timeout).await,
            Kind::Pipe(pipe) => pipe.send(line, timeout).await,
            Kind::Http(http) => http.notify(line, timeout).await,
            Kind::Sse(sse) => sse.notify(line, timeout).await,
        }
    }

    pub(crate) fn mcp_session_id(&self) -> Option<String> {
        match &self.kind {
            Kind::Http(http) => http.mcp_session_id(),
            Kind::Stdio(_) | Kind::Pipe(_) | Kind::Sse(_) => None,
        }
    }

    pub(crate) fn transport(&self) -> &'static str {
        match &self.kind {
            Kind::Stdio(_) => "stdio",
            Kind::Pipe(_) => "in_process",
            Kind::Http(_) => "streamable_http",
            Kind::Sse(_) => "legacy_sse",
        }
    }

    async fn closed(&self) -> CloseReason {
        match &self.kind {
            Kind::Stdio(stdio) => stdio.closed().await,
            Kind::Pipe(pipe) => pipe.ended().await,
            Kind::Http(http) => http.closed().await,
            Kind::Sse(sse) => sse.closed().await,
        }
    }

    async fn close(&self, grace: Duration) {
        match &self.kind {
            Kind::Stdio(stdio) => stdio.close(grace).await,
            Kind::Pipe(pipe) => {
                pipe.stop();
                pipe.stopped().await;
            }
            Kind::Http(http) => http.close().await,
            Kind::Sse(sse) => sse.close().await,
        }
    }

    /// Notifications lost, and frames that were none.
    fn counters(&self) -> (u64, u64) {
        let of = |pending: &Pending| (pending.dropped(), pending.garbage());
        match &self.kind {
            Kind::Stdio(stdio) => of(&stdio.pipe.pending),
            Kind::Pipe(pipe) => of(&pipe.pending),
            Kind::Http(http) => http.counters(),
            Kind::Sse(sse) => of(&sse.pending),
        }
    }
}

/// Opens a connection and does the handshake of the era found.
///
/// # Errors
/// [`ConnectError`]; every step has the deadline of [`crate::Timeouts`].
pub async fn connect(
    spec: &ServerSpec,
    options: ConnectOptions,
) -> Result<Arc<Connection>, ConnectError> {
    let first = attempt(spec, &options.inbound, options.known_era).await;
    let again = match (&spec.endpoint, &first) {
        // Some old servers leave on a method they do not know: ask again without the probe.
        (
            Endpoint::Stdio(_),
            Err(Refusal {
                left_at_probe: true,
                ..
            }),
        ) => attempt(spec, &options.inbound, Some(Era::Legacy)).await,
        // The specification's fallback: an endpoint that knows no POST may be HTTP+SSE.
        (
            Endpoint::StreamableHttp(http),
            Err(Refusal {
                maybe_sse: true, ..
            }),
        ) => {
            let older = ServerSpec {
                endpoint: Endpoint::LegacySse(http.clone()),
                era: EraChoice::Legacy,
                ..spec.clone()
            };
            match attempt(&older, &options.inbound, None).await {
                // That it is no HTTP+SSE either says less than why POST failed.
                Err(_) => first,
                opened => opened,
            }
        }
        _ => first,
    };
    again.map_err(|refusal| refusal.error)
}

/// Why an attempt failed, and what else may be worth trying.
struct Refusal {
    error: ConnectError,
    left_at_probe: bool,
    maybe_sse: bool,
}

async fn attempt(
    spec: &ServerSpec,
    inbound: &mpsc::Sender<Inbound>,
    known: Option<Era>,
) -> Result<Arc<Connection>, Refusal> {
    let plain = |error| Refusal {
        error,
        left_at_probe: false,
        maybe_sse: false,
    };
    let opened =
        tokio::time::timeout(spec.timeouts.connect, Carrier::open(spec, inbound.clone())).await;
    let late = || {
        plain(ConnectError::Timeout {
            step: "connect",
            after: spec.timeouts.connect,
        })
    };
    let carrier = Arc::new(opened.map_err(|_| late())?.map_err(plain)?);
    // From here on a child that leaves fails whatever waits for it, the handshake included.
    // It holds the carrier, so it ends with whoever gives this attempt up.
    let watcher = matches!(carrier.kind, Kind::Stdio(_) | Kind::Pipe(_))
        .then(|| AbortOnDropHandle::new(tokio::spawn(watch(Arc::clone(&carrier)))));
    match handshake::greet(&carrier, spec, known).await {
        Ok(info) => {
            if let Kind::Http(http) = &carrier.kind {
                http.ready(&info);
            }
            let meta = handshake::meta_of(info.era);
            Ok(Arc::new(Connection {
                carrier,
                info,
                meta,
                close_grace: spec.timeouts.close_grace,
                _watcher: watcher,
            }))
        }
        Err(error) => {
            let maybe_sse = matches!(&carrier.kind, Kind::Http(http) if http.knows_no_post());
            let probed = spec.era == EraChoice::Auto && known != Some(Era::Legacy);
            let left = matches!(&carrier.kind, Kind::Stdio(stdio) if stdio.has_exited());
            // A failed handshake gets no time to leave politely.
            carrier.close(Duration::ZERO).await;
            drop(watcher);
            Err(Refusal {
                left_at_probe: probed && left && matches!(error, ConnectError::Spawn { .. }),
                maybe_sse,
                error,
            })
        }
    }
}

/// Fails what is in flight when the stream ends.
async fn watch(carrier: Arc<Carrier>) {
    match &carrier.kind {
        Kind::Stdio(stdio) => stdio.watch().await,
        Kind::Pipe(pipe) => {
            let reason = pipe.ended().await;
            pipe.pending.end(|| match &reason {
                CloseReason::Asked => RequestError::Closed {
                    executed: Executed::Unknown,
                },
                CloseReason::Exited(detail) | CloseReason::Lost(detail) => RequestError::Protocol {
                    detail: detail.clone(),
                },
            });
        }
        Kind::Http(_) | Kind::Sse(_) => {}
    }
}

/// One open connection. Shared by reference counting; closed by [`Connection::close`] or by dropping the last handle.
#[derive(Debug)]
pub struct Connection {
    carrier: Arc<Carrier>,
    info: PeerInfo,
    meta: String,
    close_grace: Duration,
    /// It holds the carrier; the process ends with the last handle.
    _watcher: Option<AbortOnDropHandle<()>>,
}

impl Connection {
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
        self.carrier.exchange(&request, &self.meta).await
    }

    /// Answers a request of the server: `Ok` raw result, `Err` JSON-RPC code and message.
    pub async fn answer(&self, id: RequestId, outcome: Result<Box<RawValue>, (i64, String)>) {
        // A server that is gone needs no answer.
        let _ = self
            .carrier
            .notify(wire::encode_answer(&id, &outcome), NOTIFY_TIMEOUT)
            .await;
    }

    /// Resolves when the connection ended, with the reason. May be awaited by several.
    pub async fn closed(&self) -> CloseReason {
        self.carrier.closed().await
    }

    /// Closes: in-flight requests fail, the process tree or socket is gone when this returns.
    pub async fn close(&self) {
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
        let (params, meta) = (Params::default(), Params::default());
        let request = Request {
            method: method.into(),
            params,
            meta,
            timeout,
            progress: None,
            repeatable: true,
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
            Kind::Pipe(_) | Kind::Http(_) | Kind::Sse(_) => None,
        }
    }

    /// The last lines of stderr (at most 200 lines, 64 KiB), oldest first; empty where there is none.
    #[must_use]
    pub fn stderr_tail(&self) -> Vec<String> {
        match &self.carrier.kind {
            Kind::Stdio(stdio) => stdio.stderr_tail(),
            Kind::Pipe(_) | Kind::Http(_) | Kind::Sse(_) => Vec::new(),
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
