//! Streamable HTTP: a POST for each message, a session on legacy, a stream for what the server says by itself.
//!
//! A call is one future: no task, no table. Knows nothing of the handshake's content but that a lost
//! legacy session is opened anew by sending `initialize` again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Inbound, PeerInfo};
use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::handshake;
use crate::http_answer::{self, Media, Refusal, protocol};
use crate::http_client::HttpClient;
use crate::http_headers::{self, SESSION, VERSION};
use crate::http_listen;
use crate::http_stream;
use crate::mirrored_params::Mirrored;
use crate::outbound;
use crate::spec::{Era, HttpSpec, ServerSpec};
use crate::wire::{self, Incoming as Message, Notification, Request};

/// How long a message nobody waits for may take: a cancellation, a refusal.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the farewell to a legacy session may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);
/// Background messages at once; a server too slow for so many cancellations gets no more of them.
const MAX_BACKGROUND: usize = 64;
/// The specification's code for headers that do not match the body.
const MISMATCH: i64 = -32020;
/// Pages of a tool list read to learn mirrored arguments.
const MAX_LEARNT_PAGES: usize = 100;
/// Longest session id; it travels in each request's head.
const MAX_SESSION_BYTES: usize = 1024;

/// A server reached by streamable HTTP.
#[derive(Debug)]
pub(crate) struct HttpCarrier {
    core: Arc<Core>,
}

/// What the calls and the listener share.
#[derive(Debug)]
pub(crate) struct Core {
    client: Arc<HttpClient>,
    uri: Uri,
    base: HeaderMap,
    pub(crate) frame_bytes: usize,
    in_flight_limit: usize,
    renew_timeout: Duration,
    speech: watch::Sender<Arc<Speech>>,
    inbound: mpsc::Sender<Inbound>,
    stop: CancellationToken,
    tasks: TaskTracker,
    in_flight: AtomicUsize,
    pub(crate) dropped: AtomicU64,
    pub(crate) garbage: AtomicU64,
    /// The `initialize` line of the handshake, to be said again when the session was lost.
    greeting: watch::Sender<Option<Bytes>>,
    renewing: Semaphore,
    knows_no_post: AtomicBool,
    mirrored: Mirrored,
}

/// What is spoken at the moment. Replaced whole, so that a call sees one state.
#[derive(Debug)]
pub(crate) struct Speech {
    pub(crate) era: Era,
    session: Option<HeaderValue>,
    /// Counts the sessions of this connection: who found number 3 dead must not replace number 4.
    pub(crate) generation: u64,
    /// All headers that do not depend on the message.
    pub(crate) headers: HeaderMap,
}

/// One request on its way.
pub(crate) struct Call<'a> {
    pub(crate) id: u64,
    pub(crate) line: Bytes,
    pub(crate) request: &'a Request,
}

/// How one attempt failed.
pub(crate) enum Failure {
    /// The session is unknown to the server.
    SessionLost,
    /// A kept connection was closed by the server just when it was used.
    Stale(RequestError),
    Final(RequestError),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// As the caller sees it when nothing more is tried.
    fn into_error(self) -> RequestError {
        match self {
            Self::SessionLost => protocol("the server lost the session"),
            Self::Stale(error) | Self::Final(error) => error,
        }
    }
}

type Outcome = Result<Box<RawValue>, RequestError>;

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

    fn respeak(&self, change: impl FnOnce(&Speech) -> Speech) {
        self.speech
            .send_modify(|speech| *speech = Arc::new(change(speech)));
    }

    fn speech_of(
        &self,
        era: Era,
        version: &str,
        (session, generation): (Option<HeaderValue>, u64),
    ) -> Speech {
        let mut headers = self.base.clone();
        if let Ok(version) = HeaderValue::from_str(version) {
            headers.insert(VERSION, version);
        }
        if let Some(session) = &session {
            headers.insert(SESSION, session.clone());
        }
        Speech {
            era,
            session,
            generation,
            headers,
        }
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

    /// One call, with what is repeated after a fault that is known to be harmless.
    async fn call(self: &Arc<Self>, call: &Call<'_>) -> Outcome {
        let speech = self.speech();
        match self.post(&speech, call).await {
            Ok(result) => Ok(result),
            Err(Failure::SessionLost) => self.after_lost_session(&speech, call).await,
            Err(Failure::Stale(_)) if call.request.repeatable => {
                self.post(&speech, call).await.map_err(Failure::into_error)
            }
            Err(Failure::Final(RequestError::Rpc { code: MISMATCH, .. }))
                if speech.era == Era::Modern && call.request.method == "tools/call" =>
            {
                // The server refused the headers before it looked at the call (-32020).
                self.learn_mirrored(&speech).await;
                self.post(&speech, call).await.map_err(Failure::into_error)
            }
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Lists the tools once more to learn which arguments the server wants in headers: the list the catalogue
    /// has may have come over another connection. What cannot be learnt shows as the repeated refusal.
    async fn learn_mirrored(&self, speech: &Speech) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Next {
            next_cursor: Option<String>,
        }
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_LEARNT_PAGES {
            let mut params = wire::Params::default();
            if let Some(cursor) = &cursor {
                params = params.with_text("cursor", cursor);
            }
            let method = "tools/list";
            let meta = wire::Params::default();
            let timeout = Duration::ZERO;
            let request = Request {
                method: method.into(),
                params,
                meta,
                timeout,
                progress: None,
                repeatable: true,
            };
            let mut headers = speech.headers.clone();
            http_headers::add_method(&mut headers, method);
            let line = wire::encode_request(0, &request, &handshake::modern_meta(), false);
            let Ok(response) = self.send(Method::POST, headers, Bytes::from(line)).await else {
                return;
            };
            let Ok(result) = http_stream::first_result(response, self.frame_bytes).await else {
                return;
            };
            self.mirrored.learn(&result);
            cursor = serde_json::from_str::<Next>(result.get())
                .ok()
                .and_then(|next| next.next_cursor);
            if cursor.is_none() {
                return;
            }
        }
    }

    async fn after_lost_session(self: &Arc<Self>, speech: &Speech, call: &Call<'_>) -> Outcome {
        let renewed = self.renew(speech.generation).await;
        if !call.request.repeatable {
            return Err(protocol(
                "the server lost the session; the call was not sent again",
            ));
        }
        renewed?;
        self.post(&self.speech(), call)
            .await
            .map_err(Failure::into_error)
    }

    async fn post(
        self: &Arc<Self>,
        speech: &Speech,
        call: &Call<'_>,
    ) -> Result<Box<RawValue>, Failure> {
        let greets = call.request.method == "initialize";
        let mut headers = if greets {
            self.base.clone()
        } else {
            speech.headers.clone()
        };
        if speech.era == Era::Modern {
            http_headers::add_routing(&mut headers, call.request);
            self.mirrored.add(&mut headers, call.request);
        }
        let sent = self.send(Method::POST, headers, call.line.clone()).await;
        let response = sent.map_err(|fault| {
            if fault.stale {
                Failure::Stale(http_answer::unanswered(fault))
            } else {
                Failure::Final(http_answer::unanswered(fault))
            }
        })?;
        if !response.status().is_success() {
            return Err(self.refused(http_answer::read_refusal(response).await, speech, greets));
        }
        if greets {
            self.take_session(&response, &call.line);
        }
        let result = match http_answer::media(response.headers()) {
            Media::Json => {
                let body = http_answer::read_json(response.into_body(), self.frame_bytes).await?;
                self.json_answer(&body, call).await?
            }
            Media::EventStream => {
                http_stream::read(self, response.into_body(), call, speech).await?
            }
            Media::Other(_) if response.status() == StatusCode::ACCEPTED => {
                return Err(protocol("the server took the request but answered nothing").into());
            }
            Media::Other(kind) => {
                let detail = format!("the server answered with `{kind}` instead of JSON");
                return Err(RequestError::Protocol { detail }.into());
            }
        };
        if speech.era == Era::Modern && call.request.method == "tools/list" {
            self.mirrored.learn(&result);
        }
        Ok(result)
    }

    fn refused(&self, refusal: Refusal, speech: &Speech, greets: bool) -> Failure {
        if greets {
            let no_post = matches!(refusal.status.as_u16(), 400 | 404 | 405) && !refusal.is_rpc;
            self.knows_no_post.store(no_post, Ordering::Relaxed);
        } else if speech.session.is_some() && refusal.session_unknown {
            return Failure::SessionLost;
        }
        Failure::Final(refusal.error)
    }

    /// The answer in a body of JSON: alone, or in a batch with what else the server had to say.
    async fn json_answer(self: &Arc<Self>, body: &[u8], call: &Call<'_>) -> Outcome {
        let message = wire::parse(body).map_err(|_| {
            self.garbage.fetch_add(1, Ordering::Relaxed);
            protocol("the answer is no JSON-RPC message")
        })?;
        let messages = match message {
            Message::Batch(messages) => messages,
            one => vec![one],
        };
        let mut answer = None;
        for message in messages {
            if let Some(outcome) = self.take(message, call).await? {
                answer = Some(outcome);
            }
        }
        answer.unwrap_or_else(|| Err(protocol("the body holds no answer")))
    }

    /// Takes one message of a call's own stream; `Some` when it is the answer.
    pub(crate) async fn take(
        self: &Arc<Self>,
        message: Message,
        call: &Call<'_>,
    ) -> Result<Option<Outcome>, RequestError> {
        match message {
            Message::Response(response) => {
                // An error that could not even read our id still answers the only request of this exchange.
                let ours = response.id == Some(call.id)
                    || (response.id.is_none() && response.outcome.is_err());
                if !ours {
                    self.garbage.fetch_add(1, Ordering::Relaxed);
                    return Err(protocol("the server answered an id it was not asked with"));
                }
                let outcome = response.outcome.map_err(|error| RequestError::Rpc {
                    code: error.code,
                    message: error.message,
                    data: error.data,
                });
                Ok(Some(outcome))
            }
            Message::Notification(notification) => {
                self.hand_on(notification, call.request.progress.as_ref());
                Ok(None)
            }
            other => {
                self.deliver(other).await;
                Ok(None)
            }
        }
    }

    /// A notification of a call's own stream: progress and log lines belong to the call.
    fn hand_on(&self, notification: Notification, progress: Option<&mpsc::Sender<Notification>>) {
        let is_progress = notification.method == "notifications/progress";
        let belongs = is_progress || notification.method == "notifications/message";
        let lost = match progress {
            Some(channel) if belongs => channel.try_send(notification).is_err(),
            // Nobody asked for it.
            None if is_progress => false,
            _ => self
                .inbound
                .try_send(Inbound::Notification(notification))
                .is_err(),
        };
        if lost {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a message that belongs to no call.
    pub(crate) async fn deliver(self: &Arc<Self>, message: Message) {
        let messages = match message {
            Message::Batch(messages) => messages,
            one => vec![one],
        };
        for message in messages {
            match message {
                Message::Notification(notification) => self.hand_on(notification, None),
                Message::Request(request) => {
                    let id = request.id.clone();
                    if self.inbound.try_send(Inbound::Request(request)).is_err() {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                        let refusal = wire::encode_answer(
                            &id,
                            &Err((-32603, "the client is too busy".to_owned())),
                        );
                        // If it cannot be told, the server has its own deadline.
                        let _ = self.notify(refusal, NOTIFY_TIMEOUT).await;
                    }
                }
                Message::Response(_) | Message::Batch(_) => {
                    self.garbage.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Makes the catalogue look again, after a stretch in which its server may have changed unseen.
    pub(crate) fn announce_possible_change(&self) {
        let method = "notifications/tools/list_changed".to_owned();
        self.hand_on(
            Notification {
                method,
                params: None,
            },
            None,
        );
    }

    pub(crate) async fn notify(&self, line: String, timeout: Duration) -> Result<(), RequestError> {
        let speech = self.speech();
        let mut headers = speech.headers.clone();
        if speech.era == Era::Modern
            && let Ok(Message::Notification(notification)) = wire::parse(line.as_bytes())
        {
            http_headers::add_method(&mut headers, &notification.method);
        }
        let told = tokio::time::timeout(timeout, self.tell(headers, Bytes::from(line)));
        told.await
            .unwrap_or(Err(RequestError::Timeout { after: timeout }))
    }

    async fn tell(&self, headers: HeaderMap, line: Bytes) -> Result<(), RequestError> {
        let response = self
            .send(Method::POST, headers, line)
            .await
            .map_err(http_answer::unanswered)?;
        if !response.status().is_success() {
            return Err(http_answer::read_refusal(response).await.error);
        }
        http_answer::drain(response).await;
        Ok(())
    }

    /// Keeps the session a server gave with its answer to `initialize`, and how it was asked.
    fn take_session(&self, response: &Response<Incoming>, line: &Bytes) {
        let session = response
            .headers()
            .get(SESSION)
            .filter(|id| id.len() <= MAX_SESSION_BYTES)
            .cloned();
        let session = session.map(|mut id| {
            id.set_sensitive(true);
            id
        });
        self.greeting.send_replace(Some(line.clone()));
        self.respeak(|speech| Speech {
            era: speech.era,
            headers: speech.headers.clone(),
            session,
            generation: speech.generation,
        });
    }

    /// Opens a new session in place of number `lost`. Of several that found it dead, one does the work.
    pub(crate) async fn renew(&self, lost: u64) -> Result<(), RequestError> {
        let Ok(_turn) = self.renewing.acquire().await else {
            return Err(RequestError::Closed {
                executed: Executed::No,
            });
        };
        if self.speech().generation != lost {
            return Ok(());
        }
        let greeting = self.greeting.borrow().clone();
        let greeting = greeting.ok_or_else(|| protocol("the session was lost"))?;
        let renewed = tokio::time::timeout(self.renew_timeout, self.greet_again(greeting, lost));
        renewed.await.unwrap_or(Err(RequestError::Timeout {
            after: self.renew_timeout,
        }))?;
        self.announce_possible_change();
        Ok(())
    }

    async fn greet_again(&self, greeting: Bytes, lost: u64) -> Result<(), RequestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Initialized {
            protocol_version: String,
        }
        let sent = self.send(Method::POST, self.base.clone(), greeting).await;
        let response = sent.map_err(http_answer::unanswered)?;
        if !response.status().is_success() {
            return Err(http_answer::read_refusal(response).await.error);
        }
        let session = response
            .headers()
            .get(SESSION)
            .filter(|id| id.len() <= MAX_SESSION_BYTES)
            .cloned();
        let result = http_stream::first_result(response, self.frame_bytes).await?;
        let answer: Initialized = serde_json::from_str(result.get())
            .map_err(|_| protocol("the answer to initialize is no handshake"))?;
        let speech = self.speech_of(Era::Legacy, &answer.protocol_version, (session, lost + 1));
        let line = wire::encode_notification("notifications/initialized", &wire::Params::default());
        self.tell(speech.headers.clone(), Bytes::from(line)).await?;
        // Only now: whoever sees the new session may use it at once.
        self.respeak(|_| speech);
        Ok(())
    }
}
