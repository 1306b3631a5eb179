//! Streamable HTTP: a POST for each message, a session on legacy, a stream for what the server says by itself.
//!
//! A call is one future: no task, no table. Knows nothing of the handshake's content but that a lost
//! legacy session is opened anew by sending `initialize` again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Inbound, PeerInfo};
use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::http_call::{Call, Outcome};
use crate::http_client::HttpClient;
use crate::http_headers;
use crate::http_listen;
use crate::mirrored_params::Mirrored;
use crate::outbound;
use crate::spec::{Era, HttpSpec, ServerSpec};
use crate::wire::{self, Request};

/// How long a message nobody waits for may take: a cancellation, a refusal.
pub(crate) const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the farewell to a legacy session may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);
/// Background messages at once; a server too slow for so many cancellations gets no more of them.
const MAX_BACKGROUND: usize = 64;

/// A server reached by streamable HTTP.
#[derive(Debug)]
pub(crate) struct HttpCarrier {
    core: Arc<Core>,
}

/// What the calls and the listener share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) client: Arc<HttpClient>,
    pub(crate) uri: Uri,
    pub(crate) base: HeaderMap,
    pub(crate) frame_bytes: usize,
    pub(crate) in_flight_limit: usize,
    pub(crate) renew_timeout: Duration,
    pub(crate) speech: watch::Sender<Arc<Speech>>,
    pub(crate) inbound: mpsc::Sender<Inbound>,
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

impl HttpCarrier {
    /// Checks the address; nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] when policy or protocol refuse the URL or a header.
    pub(crate) fn new(
        http: &HttpSpec,
        spec: &ServerSpec,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, ConnectError> {
        let (client, uri, base) = reach(http, spec)?;
        let speech = Speech {
            era: Era::Modern,
            session: None,
            generation: 0,
            headers: base.clone(),
        };
        let core = Core {
            client,
            uri,
            base,
            frame_bytes: spec.limits.frame_bytes,
            in_flight_limit: spec.limits.in_flight,
            renew_timeout: spec.timeouts.initialize,
            speech: watch::Sender::new(Arc::new(speech)),
            inbound,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            in_flight: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            garbage: AtomicU64::new(0),
            greeting: watch::Sender::new(None),
            renewing: Semaphore::new(1),
            knows_no_post: AtomicBool::new(false),
            mirrored: Mirrored::default(),
        };
        Ok(Self {
            core: Arc::new(core),
        })
    }

    /// Tells which era and revision the next messages speak.
    pub(crate) fn speak(&self, era: Era, version: &str) {
        self.core.respeak(|speech| {
            let session = speech.session.clone().filter(|_| era == Era::Legacy);
            self.core
                .speech_of(era, version, (session, speech.generation))
        });
    }

    /// The handshake is done: listens for what the server says by itself.
    pub(crate) fn ready(&self, info: &PeerInfo) {
        if let Some(plan) = http_listen::Plan::of(info) {
            let core = Arc::clone(&self.core);
            self.core.tasks.spawn(async move {
                tokio::select! {
                    () = core.stop.cancelled() => {}
                    () = http_listen::listen(&core, plan) => {}
                }
            });
        }
    }

    /// `initialize` was refused the way an HTTP+SSE server refuses a POST.
    pub(crate) fn knows_no_post(&self) -> bool {
        self.core.knows_no_post.load(Ordering::Relaxed)
    }

    pub(crate) fn mcp_session_id(&self) -> Option<String> {
        let speech = self.core.speech();
        speech
            .session
            .as_ref()
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned)
    }

    /// Notifications lost, and messages that were none.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (
            self.core.dropped.load(Ordering::Relaxed),
            self.core.garbage.load(Ordering::Relaxed),
        )
    }

    /// There is no connection that could be lost; only [`Self::close`] ends it.
    pub(crate) async fn closed(&self) -> CloseReason {
        self.core.stop.cancelled().await;
        CloseReason::Asked
    }

    /// Sends one request and waits for its result. Dropping the future cancels it upstream.
    pub(crate) async fn exchange(&self, id: u64, line: String, request: &Request) -> Outcome {
        let core = &self.core;
        let _slot = Slot::take(core)?;
        let mut parting = Parting {
            core,
            id,
            reason: Some("the caller gave up"),
        };
        if request.method == "initialize" {
            // The specification forbids cancelling it.
            parting.reason = None;
        }
        let call = Call {
            id,
            line: Bytes::from(line),
            request,
        };
        let outcome = tokio::select! {
            biased;
            outcome = tokio::time::timeout(request.timeout, core.call(&call)) => outcome,
            () = core.stop.cancelled() => Ok(Err(RequestError::Closed { executed: Executed::Unknown })),
        };
        match outcome {
            Ok(outcome) => {
                parting.reason = None;
                outcome
            }
            Err(_elapsed) => {
                parting.reason = parting.reason.map(|_| "the deadline passed");
                Err(RequestError::Timeout {
                    after: request.timeout,
                })
            }
        }
    }

    /// Sends a message nobody answers.
    pub(crate) async fn notify(&self, line: String, timeout: Duration) -> Result<(), RequestError> {
        self.core.notify(line, timeout).await
    }

    /// Ends the calls in flight and the listener, and takes leave of a legacy session.
    pub(crate) async fn close(&self) {
        let core = &self.core;
        core.stop.cancel();
        core.tasks.close();
        core.tasks.wait().await;
        let speech = core.speech();
        if speech.session.is_some() {
            core.respeak(|speech| Speech {
                era: speech.era,
                session: None,
                generation: speech.generation,
                headers: core.base.clone(),
            });
            let farewell = core.send(Method::DELETE, speech.headers.clone(), Bytes::new());
            // A server that knows no DELETE, or is gone, has forgotten the session as well.
            let _ = tokio::time::timeout(DELETE_TIMEOUT, farewell).await;
        }
    }
}

impl Drop for HttpCarrier {
    fn drop(&mut self) {
        self.core.stop.cancel();
    }
}

/// What both HTTP carriers need to reach a server.
pub(crate) fn reach(
    http: &HttpSpec,
    spec: &ServerSpec,
) -> Result<(Arc<HttpClient>, Uri, HeaderMap), ConnectError> {
    let refused = |error: &dyn std::error::Error| ConnectError::Unreachable {
        detail: error.to_string(),
    };
    outbound::check_url(&http.url, &http.outbound).map_err(|error| refused(&error))?;
    let base = http_headers::base_headers(http).map_err(|error| refused(&error))?;
    let mut url = http.url.clone();
    url.set_fragment(None);
    let uri = url
        .as_str()
        .parse()
        .map_err(|error: http::uri::InvalidUri| refused(&error))?;
    Ok((
        HttpClient::shared(&http.outbound, spec.timeouts.connect),
        uri,
        base,
    ))
}

/// One of the places for requests in flight.
struct Slot<'a>(&'a Core);

impl<'a> Slot<'a> {
    fn take(core: &'a Core) -> Result<Self, RequestError> {
        if core.stop.is_cancelled() {
            return Err(RequestError::Closed {
                executed: Executed::No,
            });
        }
        if core.in_flight.fetch_add(1, Ordering::Relaxed) >= core.in_flight_limit {
            core.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(RequestError::Overloaded {
                limit: core.in_flight_limit,
            });
        }
        Ok(Self(core))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a legacy server that nobody waits any more. A modern one sees its stream close.
struct Parting<'a> {
    core: &'a Arc<Core>,
    id: u64,
    reason: Option<&'static str>,
}

impl Drop for Parting<'_> {
    fn drop(&mut self) {
        let Some(reason) = self.reason else { return };
        if self.core.speech().era == Era::Legacy {
            let core = Arc::clone(self.core);
            let line = wire::encode_cancelled(self.id, reason);
            self.core.in_background(async move {
                // The server may be the reason for the deadline; then it hears nothing.
                let _ = core.notify(line, NOTIFY_TIMEOUT).await;
            });
        }
    }
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
    ) -> Result<Response<Incoming>, crate::http_client::SendFault> {
        let mut request = HttpRequest::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        self.client.send(request).await
    }
}
