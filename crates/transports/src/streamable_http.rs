//! Streamable HTTP: a POST for each message, a session on legacy, a stream for what the server says by itself.
//!
//! A call is one future: no task, no table. Knows nothing of the handshake's content but that a lost
//! legacy session is opened anew by sending `initialize` again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::Inbound;
use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::http_bearer::Bearing;
use crate::http_call::{Call, Outcome};
use crate::http_client::{Destination, HttpClient};
use crate::http_core::{Core, NOTIFY_TIMEOUT, Speech};
use crate::http_headers;
use crate::http_listen;
use crate::mirrored_params::Mirrored;
use crate::outbound::{self, OutboundError};
use crate::spec::{Era, HttpSpec, ServerSpec};
use crate::wire::{self, Request};
use crate::wishes::Wishes;

/// How long the farewell to a legacy session may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server reached by streamable HTTP.
#[derive(Debug)]
pub(crate) struct HttpCarrier {
    core: Arc<Core>,
}

impl HttpCarrier {
    /// Checks the address; nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] when policy or protocol refuse the URL or a header.
    pub(crate) fn new(
        http: &HttpSpec,
        spec: &ServerSpec,
        (inbound, wishes): (mpsc::Sender<Inbound>, Arc<Wishes>),
    ) -> Result<Self, ConnectError> {
        let (client, to, base) = reach(http, spec)?;
        let speech = Speech {
            era: Era::Modern,
            session: None,
            generation: 0,
            headers: base.clone(),
        };
        let core = Core {
            client,
            to,
            base,
            frame_bytes: spec.limits.frame_bytes,
            in_flight_limit: spec.limits.in_flight,
            renew_timeout: spec.timeouts.initialize,
            speech: watch::Sender::new(Arc::new(speech)),
            inbound,
            wishes,
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

    /// The handshake is done: listens for what a legacy server says by itself.
    pub(crate) fn ready(&self, era: Era) {
        if era == Era::Legacy {
            let core = Arc::clone(&self.core);
            self.core.tasks.spawn(async move {
                tokio::select! {
                    () = core.stop.cancelled() => {}
                    () = http_listen::listen(&core) => {}
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

    pub(crate) fn count_dropped(&self) {
        self.core.dropped.fetch_add(1, Ordering::Relaxed);
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

    /// Sends a request that stays open, outside of the bound on calls, and waits for its end.
    pub(crate) async fn stand(&self, id: u64, line: String, request: &Request) -> Outcome {
        let core = &self.core;
        let call = Call {
            id,
            line: Bytes::from(line),
            request,
        };
        tokio::select! {
            biased;
            () = core.stop.cancelled() => Err(RequestError::Closed { executed: Executed::Unknown }),
            outcome = core.call(&call) => outcome,
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
) -> Result<(Bearing, Destination, HeaderMap), ConnectError> {
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
    let client = Bearing {
        client: HttpClient::shared(&http.outbound, spec.timeouts.connect),
        bearer: http.bearer.clone(),
    };
    let to = client
        .destination(&uri)
        .ok_or_else(|| refused(&OutboundError::NoHost))?;
    Ok((client, to, base))
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
