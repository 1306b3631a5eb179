//! HTTP+SSE of 2024-11-05: one GET stream for everything the server says, a POST for everything we say.
//!
//! Answers meet their calls through [`Pending`], as on stdio. A lost stream ends the connection: the
//! transport knows no resumption.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request as HttpRequest, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::connection::Inbound;
use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::http_answer::{self, Media};
use crate::http_client::HttpClient;
use crate::http_headers;
use crate::pending::Pending;
use crate::spec::{HttpSpec, ServerSpec};
use crate::sse::{SseFault, SseReader};
use crate::streamable_http::reach;
use crate::wire::{self, Incoming as Message, Request};

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
    client: Arc<HttpClient>,
    /// Where to POST, as the `endpoint` event said.
    endpoint: Uri,
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
        let (client, uri, base) = reach(http, spec)?;
        let unreachable = |detail: String| ConnectError::Unreachable { detail };
        let response = send(
            &client,
            (Method::GET, uri),
            http_headers::for_stream(base.clone(), None),
            Bytes::new(),
        )
        .await
        .map_err(|fault| unreachable(fault.detail))?;
        if !response.status().is_success() {
            return Err(refused(http_answer::read_refusal(response).await.error));
        }
        if http_answer::media(response.headers()) != Media::EventStream {
            let detail = "the answer to GET is no event stream".to_owned();
            return Err(ConnectError::Protocol { detail });
        }
        let mut reader = SseReader::new(response.into_body(), spec.limits.frame_bytes);
        let endpoint = find_endpoint(&mut reader, &http.url).await?;
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
        let Some(answer) = self.pending.enter(id, request.progress.clone())? else {
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

async fn send(
    client: &HttpClient,
    to: (Method, Uri),
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Incoming>, crate::http_client::SendFault> {
    let mut request = HttpRequest::new(Full::new(body));
    (*request.method_mut(), *request.uri_mut()) = to;
    *request.headers_mut() = headers;
    client.send(request).await
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

/// Waits for the event that says where to POST, and holds it to the stream's own origin: an endpoint
/// elsewhere would be handed our headers.
async fn find_endpoint(
    reader: &mut SseReader<Incoming>,
    stream: &Url,
) -> Result<Uri, ConnectError> {
    let protocol = |detail: &str| ConnectError::Protocol {
        detail: detail.to_owned(),
    };
    loop {
        let event = reader
            .next()
            .await
            .map_err(|_| protocol("the stream broke before its endpoint event"))?;
        let event = event.ok_or_else(|| protocol("the stream ended before its endpoint event"))?;
        if event.event.as_deref() != Some("endpoint") {
            continue;
        }
        let text =
            std::str::from_utf8(&event.data).map_err(|_| protocol("the endpoint is no text"))?;
        let endpoint = stream
            .join(text.trim())
            .map_err(|_| protocol("the endpoint is no URL"))?;
        let names_user = !endpoint.username().is_empty() || endpoint.password().is_some();
        if names_user || endpoint.origin() != stream.origin() {
            return Err(protocol("the endpoint has another origin than the stream"));
        }
        return endpoint
            .as_str()
            .parse()
            .map_err(|_| protocol("the endpoint is no URL"));
    }
}

impl Shared {
    /// POSTs one message; its answer, if any, comes on the stream.
    async fn post(&self, line: String) -> Result<(), RequestError> {
        let sent = send(
            &self.client,
            (Method::POST, self.endpoint.clone()),
            self.base.clone(),
            Bytes::from(line),
        );
        let response = sent.await.map_err(http_answer::unanswered)?;
        if !response.status().is_success() {
            return Err(http_answer::read_refusal(response).await.error);
        }
        http_answer::drain(response).await;
        Ok(())
    }
}

/// The reader of the stream.
struct Hearing {
    pending: Arc<Pending>,
    shared: Arc<Shared>,
    inbound: mpsc::Sender<Inbound>,
}

impl Hearing {
    async fn run(&self, mut reader: SseReader<Incoming>, limit_bytes: usize) -> CloseReason {
        loop {
            let event = match reader.next().await {
                Ok(Some(event)) => event,
                Ok(None) => return CloseReason::Lost("the event stream ended".to_owned()),
                Err(SseFault::Broken) => {
                    return CloseReason::Lost("the event stream broke".to_owned());
                }
                Err(SseFault::TooLarge) => {
                    // What follows cannot be told apart any more, so the stream is over for all.
                    self.pending.end(|| RequestError::TooLarge { limit_bytes });
                    return CloseReason::Lost("an event was over the limit".to_owned());
                }
            };
            if matches!(event.event.as_deref(), None | Some("" | "message"))
                && !event.data.is_empty()
            {
                match wire::parse(&event.data) {
                    Ok(message) => self.take(message).await,
                    Err(_) => self.pending.count_garbage(),
                }
            }
        }
    }

    async fn take(&self, message: Message) {
        let messages = match message {
            Message::Batch(messages) => messages,
            one => vec![one],
        };
        for message in messages {
            match message {
                Message::Response(response) => self.pending.answer(response),
                Message::Notification(notification) => {
                    let rest = if notification.method == "notifications/progress" {
                        self.pending.progress(notification)
                    } else {
                        Some(notification)
                    };
                    let lost = rest.is_some_and(|rest| {
                        self.inbound.try_send(Inbound::Notification(rest)).is_err()
                    });
                    if lost {
                        self.pending.count_dropped();
                    }
                }
                Message::Request(request) => {
                    let id = request.id.clone();
                    if self.inbound.try_send(Inbound::Request(request)).is_err() {
                        self.pending.count_dropped();
                        let refusal = wire::encode_answer(
                            &id,
                            &Err((-32603, "the client is too busy".to_owned())),
                        );
                        // If it cannot be told, the server has its own deadline.
                        let _ =
                            tokio::time::timeout(NOTIFY_TIMEOUT, self.shared.post(refusal)).await;
                    }
                }
                Message::Batch(_) => self.pending.count_garbage(),
            }
        }
    }
}
