//! HTTP+SSE of 2024-11-05: one GET stream for everything the server says, a POST for everything we say.
//!
//! Answers meet their calls through [`Pending`], as on stdio. A lost stream ends the connection: the
//! transport knows no resumption.

mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::Inbound;
use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::http_answer::{self, Media};
use crate::http_bearer::Bearing;
use crate::http_client::Destination;
use crate::http_headers;
use crate::pending::Pending;
use crate::spec::{HttpSpec, ServerSpec};
use crate::sse::SseReader;
use crate::streamable_http::reach;
use crate::wire::{self, Request};
use stream::{Hearing, find_endpoint};

/// How long a message nobody waits for may take.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// Cancellations and refusals on their way at once.
const MAX_BACKGROUND: usize = 64;

/// A server reached by HTTP+SSE.
#[derive(Debug)]
pub(crate) struct SseCarrier {
    pub(crate) pending: Arc<Pending>,
    shared: Arc<Shared>,
    ended: watch::Receiver<Option<CloseReason>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

type Outcome = Result<Box<RawValue>, RequestError>;
type Answer = oneshot::Receiver<Outcome>;

/// What calls and the reader share.
#[derive(Debug)]
struct Shared {
    client: Bearing,
    /// Where to POST, as the `endpoint` event said.
    endpoint: Destination,
    base: HeaderMap,
}

/// Takes a call out of the table, and tells the server, unless it was answered.
struct Leaver<'a> {
    carrier: &'a SseCarrier,
    id: u64,
    reason: &'static str,
}

impl Drop for Leaver<'_> {
    fn drop(&mut self) {
        let carrier = self.carrier;
        if carrier.pending.leave(self.id) && carrier.tasks.len() < MAX_BACKGROUND {
            let (shared, stop) = (Arc::clone(&carrier.shared), carrier.stop.clone());
            let line = wire::encode_cancelled(self.id, self.reason);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                carrier
                    .tasks
                    .spawn_on(in_background(shared, line, stop), &runtime);
            }
        }
    }
}

async fn in_background(shared: Arc<Shared>, line: String, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        // The server may be the reason; then it hears nothing.
        _ = tokio::time::timeout(NOTIFY_TIMEOUT, shared.post(line)) => {}
    }
}

impl SseCarrier {
    /// GETs the stream and waits for its `endpoint` event. The caller bounds the time.
    pub(crate) async fn open(
        http: &HttpSpec,
        spec: &ServerSpec,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, ConnectError> {
        let (client, to, base) = reach(http, spec)?;
        let unreachable = |detail: String| ConnectError::Unreachable { detail };
        let headers = http_headers::for_stream(base.clone(), None);
        let response = client.send((Method::GET, &to), headers, Bytes::new());
        let response = response.await.map_err(|fault| unreachable(fault.detail))?;
        if !response.status().is_success() {
            return Err(refused(http_answer::read_refusal(response).await.error));
        }
        if http_answer::media(response.headers()) != Media::EventStream {
            let detail = "the answer to GET is no event stream".to_owned();
            return Err(ConnectError::Protocol { detail });
        }
        let mut reader = SseReader::new(response.into_body(), spec.limits.frame_bytes);
        let endpoint = find_endpoint(&mut reader, &http.url).await?;
        let endpoint = client.destination(&endpoint).ok_or_else(|| {
            let detail = "the endpoint is no URL".to_owned();
            ConnectError::Protocol { detail }
        })?;
        let pending = Arc::new(Pending::new(spec.limits.in_flight));
        let shared = Arc::new(Shared {
            client,
            endpoint,
            base,
        });
        let (end, ended) = watch::channel(None);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let hearing = Hearing {
            pending: Arc::clone(&pending),
            shared: Arc::clone(&shared),
            inbound,
        };
        let (stopped, limit_bytes) = (stop.clone(), spec.limits.frame_bytes);
        tasks.spawn(async move {
            let reason = tokio::select! {
                reason = hearing.run(reader, limit_bytes) => reason,
                () = stopped.cancelled() => CloseReason::Asked,
            };
            hearing.pending.end(|| match &reason {
                CloseReason::Asked => RequestError::Closed {
                    executed: Executed::Unknown,
                },
                CloseReason::Exited(detail) | CloseReason::Lost(detail) => RequestError::Protocol {
                    detail: detail.clone(),
                },
            });
            end.send_replace(Some(reason));
        });
        Ok(Self {
            pending,
            shared,
            ended,
            stop,
            tasks,
        })
    }

    /// Sends one request and waits for its result. Dropping the future cancels it upstream.
    pub(crate) async fn exchange(&self, id: u64, line: String, request: &Request) -> Outcome {
        let Some(answer) = self.pending.enter(id, request)? else {
            return Err(RequestError::Closed {
                executed: Executed::No,
            });
        };
        let mut leaver = Leaver {
            carrier: self,
            id,
            reason: "the caller gave up",
        };
        let exchanged = tokio::time::timeout(request.timeout, self.until_answered(line, answer));
        exchanged.await.unwrap_or_else(|_elapsed| {
            leaver.reason = "the deadline passed";
            Err(RequestError::Timeout {
                after: request.timeout,
            })
        })
    }

    /// POSTs a request and waits for its answer on the stream, which may come before the POST is answered.
    async fn until_answered(&self, line: String, mut answer: Answer) -> Outcome {
        let lost = || {
            Err(RequestError::Closed {
                executed: Executed::Unknown,
            })
        };
        let shared = Arc::clone(&self.shared);
        let mut posting = Box::pin(async move { shared.post(line).await });
        tokio::select! {
            biased;
            outcome = &mut answer => {
                if self.tasks.len() < MAX_BACKGROUND {
                    let stop = self.stop.clone();
                    // Read to its end, so that its connection can be used again.
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            _ = tokio::time::timeout(NOTIFY_TIMEOUT, posting) => {}
                        }
                    });
                }
                outcome.unwrap_or_else(|_| lost())
            }
            posted = &mut posting => {
                posted?;
                answer.await.unwrap_or_else(|_| lost())
            }
        }
    }

    /// Sends a message nobody answers.
    pub(crate) async fn notify(&self, line: String, timeout: Duration) -> Result<(), RequestError> {
        let told = tokio::time::timeout(timeout, self.shared.post(line));
        told.await
            .unwrap_or(Err(RequestError::Timeout { after: timeout }))
    }

    /// Resolves when the stream is over.
    pub(crate) async fn closed(&self) -> CloseReason {
        let mut ended = self.ended.clone();
        let reason = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        reason.unwrap_or(CloseReason::Asked)
    }

    /// Ends the stream and what is in flight.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for SseCarrier {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A refused GET as a failed connection.
fn refused(error: RequestError) -> ConnectError {
    match error {
        RequestError::NeedsAuth { challenge } => ConnectError::NeedsAuth { challenge },
        RequestError::Unreachable { detail } => ConnectError::Unreachable { detail },
        other => ConnectError::Protocol {
            detail: other.to_string(),
        },
    }
}

impl Shared {
    /// POSTs one message; its answer, if any, comes on the stream.
    async fn post(&self, line: String) -> Result<(), RequestError> {
        let to = (Method::POST, &self.endpoint);
        let sent = self.client.send(to, self.base.clone(), Bytes::from(line));
        let response = sent.await.map_err(http_answer::unanswered)?;
        if !response.status().is_success() {
            return Err(http_answer::read_refusal(response).await.error);
        }
        http_answer::drain(response).await;
        Ok(())
    }
}
