//! What carries the messages of one connection: encodes, numbers and hands over. Knows no handshake.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::connection::Inbound;
use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::legacy_sse::SseCarrier;
use crate::pending::Pending;
use crate::pipe::Pipe;
use crate::spec::{Endpoint, Era, ServerSpec};
use crate::stdio::StdioCarrier;
use crate::streamable_http::HttpCarrier;
use crate::tunnel::TunnelCarrier;
use crate::wire::{self, EraMeta, Notification, Request};
use crate::wishes::Wishes;

/// What carries messages. Encodes, numbers and hands over; the kinds differ below.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) kind: Kind,
    pub(crate) wishes: Arc<Wishes>,
    inbound: mpsc::Sender<Inbound>,
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
    /// A server behind an agent.
    Tunnel(Box<TunnelCarrier>),
}

impl Carrier {
    pub(crate) async fn open(
        spec: &ServerSpec,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, ConnectError> {
        let wishes = Arc::<Wishes>::default();
        let heard = inbound.clone();
        let kind = match &spec.endpoint {
            Endpoint::Stdio(stdio) => Kind::Stdio(Box::new(
                StdioCarrier::start(stdio, spec.limits, heard).await?,
            )),
            Endpoint::InProcess(make) => {
                let (reader, writer) = tokio::io::split((make.0)());
                Kind::Pipe(Pipe::start(reader, writer, spec.limits, heard))
            }
            Endpoint::StreamableHttp(http) => {
                let shared = (heard, Arc::clone(&wishes));
                Kind::Http(Box::new(HttpCarrier::new(http, spec, shared)?))
            }
            Endpoint::LegacySse(http) => {
                Kind::Sse(Box::new(SseCarrier::open(http, spec, heard).await?))
            }
            Endpoint::Tunnel(tunnel) => Kind::Tunnel(Box::new(TunnelCarrier::open(tunnel, heard)?)),
        };
        Ok(Self {
            kind,
            wishes,
            inbound,
            next_id: AtomicU64::new(1),
        })
    }

    /// Tells which era and revision the next messages speak; HTTP says so in headers.
    pub(crate) fn speak(&self, era: Era, version: &str) {
        match &self.kind {
            Kind::Http(http) => http.speak(era, version),
            Kind::Stdio(_) | Kind::Pipe(_) | Kind::Sse(_) | Kind::Tunnel(_) => {}
        }
    }

    /// Sends a request with the era's `_meta` members and waits for its raw result.
    pub(crate) async fn exchange(
        &self,
        request: &Request,
        meta: EraMeta<'_>,
    ) -> Result<Box<RawValue>, RequestError> {
        if let Kind::Tunnel(tunnel) = &self.kind {
            // No message is made: the agent makes its own.
            return tunnel.exchange(request).await;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let line = wire::encode_request(id, request, meta);
        match &self.kind {
            Kind::Stdio(stdio) => stdio.pipe.exchange(id, line, request).await,
            Kind::Pipe(pipe) => pipe.exchange(id, line, request).await,
            Kind::Http(http) => http.exchange(id, line, request).await,
            Kind::Sse(sse) => sse.exchange(id, line, request).await,
            Kind::Tunnel(tunnel) => tunnel.exchange(request).await,
        }
    }

    /// Sends a request that stays open for as long as the server speaks, and waits for its end.
    pub(crate) async fn stand(
        &self,
        request: &Request,
        meta: EraMeta<'_>,
    ) -> Result<Box<RawValue>, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let line = wire::encode_request(id, request, meta);
        match &self.kind {
            Kind::Stdio(stdio) => stdio.pipe.stand(id, line, request).await,
            Kind::Pipe(pipe) => pipe.stand(id, line, request).await,
            Kind::Http(http) => http.stand(id, line, request).await,
            // Of an era that knows no such request, or one that cannot cross.
            Kind::Sse(_) | Kind::Tunnel(_) => Err(RequestError::Closed {
                executed: Executed::No,
            }),
        }
    }

    /// Hands up a notification that is no single request's.
    pub(crate) fn hand_up(&self, notification: Notification) {
        let heard = Inbound::Notification(notification);
        if self.inbound.try_send(heard).is_err() {
            match &self.kind {
                Kind::Stdio(stdio) => stdio.pipe.pending.count_dropped(),
                Kind::Pipe(pipe) => pipe.pending.count_dropped(),
                Kind::Http(http) => http.count_dropped(),
                Kind::Sse(sse) => sse.pending.count_dropped(),
                Kind::Tunnel(tunnel) => tunnel.count_dropped(),
            }
        }
    }

    /// Makes the catalogue look again, after a stretch in which its server may have changed unseen.
    pub(crate) fn announce_possible_change(&self) {
        self.hand_up(Notification {
            method: "notifications/tools/list_changed".to_owned(),
            params: None,
        });
    }

    /// Sends a message nobody answers.
    pub(crate) async fn notify(&self, line: String, timeout: Duration) -> Result<(), RequestError> {
        match &self.kind {
            Kind::Stdio(stdio) => stdio.pipe.send(line, timeout).await,
            Kind::Pipe(pipe) => pipe.send(line, timeout).await,
            Kind::Http(http) => http.notify(line, timeout).await,
            Kind::Sse(sse) => sse.notify(line, timeout).await,
            // An agent answers its servers itself, and there is nothing else to be told.
            Kind::Tunnel(_) => Ok(()),
        }
    }

    pub(crate) fn mcp_session_id(&self) -> Option<String> {
        match &self.kind {
            Kind::Http(http) => http.mcp_session_id(),
            Kind::Stdio(_) | Kind::Pipe(_) | Kind::Sse(_) | Kind::Tunnel(_) => None,
        }
    }

    pub(crate) fn transport(&self) -> &'static str {
        match &self.kind {
            Kind::Stdio(_) => "stdio",
            Kind::Pipe(_) => "in_process",
            Kind::Http(_) => "streamable_http",
            Kind::Sse(_) => "legacy_sse",
            Kind::Tunnel(_) => "tunnel",
        }
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        match &self.kind {
            Kind::Stdio(stdio) => stdio.closed().await,
            Kind::Pipe(pipe) => pipe.ended().await,
            Kind::Http(http) => http.closed().await,
            Kind::Sse(sse) => sse.closed().await,
            Kind::Tunnel(tunnel) => tunnel.closed().await,
        }
    }

    pub(crate) async fn close(&self, grace: Duration) {
        match &self.kind {
            Kind::Stdio(stdio) => stdio.close(grace).await,
            Kind::Pipe(pipe) => {
                pipe.stop();
                pipe.stopped().await;
            }
            Kind::Http(http) => http.close().await,
            Kind::Sse(sse) => sse.close().await,
            Kind::Tunnel(tunnel) => tunnel.close().await,
        }
    }

    /// Notifications lost, and frames that were none.
    pub(crate) fn counters(&self) -> (u64, u64) {
        let of = |pending: &Pending| (pending.dropped(), pending.garbage());
        match &self.kind {
            Kind::Stdio(stdio) => of(&stdio.pipe.pending),
            Kind::Pipe(pipe) => of(&pipe.pending),
            Kind::Http(http) => http.counters(),
            Kind::Sse(sse) => of(&sse.pending),
            Kind::Tunnel(tunnel) => tunnel.counters(),
        }
    }
}
