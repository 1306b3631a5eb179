//! What the calls of one streamable HTTP server and its listener share, and how one request is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::Inbound;
use crate::http_bearer::Bearing;
use crate::http_client::{Destination, SendFault};
use crate::http_pool::Answer;
use crate::mirrored_params::Mirrored;
use crate::spec::Era;
use crate::wishes::Wishes;

/// How long a message nobody waits for may take: a cancellation, a refusal.
pub(crate) const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// Background messages at once; a server too slow for so many cancellations gets no more of them.
const MAX_BACKGROUND: usize = 64;

/// What the calls and the listener share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) client: Bearing,
    pub(crate) to: Destination,
    pub(crate) base: HeaderMap,
    pub(crate) frame_bytes: usize,
    pub(crate) in_flight_limit: usize,
    pub(crate) renew_timeout: Duration,
    pub(crate) speech: watch::Sender<Arc<Speech>>,
    pub(crate) inbound: mpsc::Sender<Inbound>,
    /// What a new session has to be told.
    pub(crate) wishes: Arc<Wishes>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) dropped: AtomicU64,
    pub(crate) garbage: AtomicU64,
    /// The `initialize` line of the handshake, to be said again when the session was lost.
    pub(crate) greeting: watch::Sender<Option<Bytes>>,
    pub(crate) renewing: Semaphore,
    pub(crate) knows_no_post: AtomicBool,
    pub(crate) mirrored: Mirrored,
}

/// What is spoken at the moment. Replaced whole, so that a call sees one state.
#[derive(Debug)]
pub(crate) struct Speech {
    pub(crate) era: Era,
    pub(crate) session: Option<HeaderValue>,
    /// Counts the sessions of this connection: who found number 3 dead must not replace number 4.
    pub(crate) generation: u64,
    /// All headers that do not depend on the message.
    pub(crate) headers: HeaderMap,
}

impl Core {
    pub(crate) fn speech(&self) -> Arc<Speech> {
        Arc::clone(&self.speech.borrow())
    }

    /// Sees every change of session.
    pub(crate) fn speeches(&self) -> watch::Receiver<Arc<Speech>> {
        self.speech.subscribe()
    }

    pub(crate) fn respeak(&self, change: impl FnOnce(&Speech) -> Speech) {
        self.speech
            .send_modify(|speech| *speech = Arc::new(change(speech)));
    }

    /// Runs something that nobody waits for, if there is room and a runtime.
    pub(crate) fn in_background(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.len() >= MAX_BACKGROUND {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let stop = self.stop.clone();
            self.tasks.spawn_on(
                async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = work => {}
                    }
                },
                &runtime,
            );
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Answer>, SendFault> {
        self.client.send((method, &self.to), headers, body).await
    }
}
