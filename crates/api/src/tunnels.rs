//! Connections of agents: each a WebSocket that outlives the HTTP connection it came by. Counted, bounded, and awaited
//! at the end. What is said on them is `transports::tunnel`'s.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{Sink, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::tunnel::bridge::{Door, serve};
use transports::tunnel::{FrameSocket, SocketError};

/// Connections of agents at once, those included that have not said who they are.
const MAX_TUNNELS: usize = 4096;
/// At the end, farewells have this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// All connections of agents.
#[derive(Debug)]
pub struct Tunnels {
    places: Arc<Semaphore>,
    tracker: TaskTracker,
    abort: CancellationToken,
}

impl Tunnels {
    /// None yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_TUNNELS)),
            tracker: TaskTracker::new(),
            abort: CancellationToken::new(),
        }
    }

    /// A place for one more; `None` when all are taken.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Serves one connection to its end.
    pub(crate) fn carry<D: Door + 'static>(
        &self,
        socket: WebSocket,
        (door, place): (D, OwnedSemaphorePermit),
    ) -> impl Future<Output = ()> + use<D> {
        let abort = self.abort.clone();
        self.tracker.track_future(async move {
            let ended = abort.run_until_cancelled(serve(Line(socket), &door)).await;
            drop(place);
            tracing::debug!(tunnel.end = ?ended, "an agent's connection ended");
        })
    }

    /// Waits for the connections the broker has closed, and drops the rest.
    pub(crate) async fn end(&self) {
        self.tracker.close();
        if tokio::time::timeout(FAREWELL, self.tracker.wait())
            .await
            .is_err()
        {
            self.abort.cancel();
            self.tracker.wait().await;
        }
    }
}

/// A WebSocket as a line of frames.
#[derive(Debug)]
struct Line(WebSocket);

fn lost(error: &axum::Error) -> SocketError {
    let source = std::error::Error::source(error);
    let inner = source.and_then(|source| source.downcast_ref::<tungstenite::Error>());
    match inner {
        Some(tungstenite::Error::Capacity(_)) => SocketError::TooLarge,
        Some(tungstenite::Error::Utf8(_)) => SocketError::NotText,
        _ => SocketError::Lost(error.to_string()),
    }
}

impl FrameSocket for Line {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, SocketError>>> {
        loop {
            let message = match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(lost(&error)))),
                Some(Ok(message)) => message,
            };
            match message {
                Message::Text(text) => return Poll::Ready(Some(Ok(text.as_str().to_owned()))),
                Message::Binary(_) => return Poll::Ready(Some(Err(SocketError::NotText))),
                // The frames have a ping of their own; WebSocket's is answered underneath.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        let ready = ready!(Pin::new(&mut self.0).poll_ready(cx));
        Poll::Ready(ready.map_err(|error| lost(&error)))
    }

    fn start_send(&mut self, text: String) -> Result<(), SocketError> {
        let message = Message::Text(text.into());
        Pin::new(&mut self.0)
            .start_send(message)
            .map_err(|error| lost(&error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        let flushed = ready!(Pin::new(&mut self.0).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| lost(&error)))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, code: u16, reason: &str) -> Poll<()> {
        // Sent once: after it the socket takes nothing more, and says so.
        if let Poll::Ready(Ok(())) = Pin::new(&mut self.0).poll_ready(cx) {
            let farewell = CloseFrame {
                code,
                reason: reason.into(),
            };
            let _ = Pin::new(&mut self.0).start_send(Message::Close(Some(farewell)));
        }
        // Whether it arrives is the agent's business.
        Pin::new(&mut self.0).poll_close(cx).map(|_| ())
    }
}
