//! A streamable HTTP server of the legacy era whose `tools/call` can be made to misbehave.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// What `tools/call` is answered with.
#[derive(Debug, Clone, Default)]
pub(crate) enum Fault {
    /// Nothing is wrong: echoes `arguments.message` as JSON.
    #[default]
    None,
    /// The echo as an event stream, after so many progress notifications and a log line.
    Stream(u64),
    /// The echo as an event stream, after these messages.
    Say(Vec<Value>),
    /// This status, content type and body.
    Answer(u16, &'static str, String),
    /// This status with one more header.
    Header(u16, &'static str, String),
    /// The echo under an id that was not asked.
    WrongId,
    /// The body breaks off in the middle.
    Truncated,
    /// Nothing is ever answered.
    Silent,
    /// The head and then a byte now and then.
    Drip,
    /// A stream that breaks before the result; with an event id, the result waits behind a GET.
    Dropped { resumable: bool },
    /// A stream that ends politely before the result, which waits behind a GET for whoever comes back
    /// no sooner than after so many milliseconds.
    Polled(u64),
    /// The session is forgotten once; the refusal has this status.
    ForgetOnce(u16),
    /// `initialize` is never answered; all else is well.
    NoGreeting,
    /// `initialize` is refused as unreadable while this stands in the client's capabilities.
    Unreadable(&'static str),
    /// Every GET stream ends at once, and says when to come back.
    ShortStreams,
    /// Asks the client for `roots/list` on the call's stream, then echoes what was answered.
    Ask,
}

type Body = BoxBody<Bytes, io::Error>;

/// How long a body stands before it is cut off.
const BEFORE_A_CUT: Duration = Duration::from_millis(20);

/// The server; stops with the runtime of its test.
#[derive(Debug)]
pub(crate) struct FaultServer {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    fault: Mutex<Fault>,
    sessions: Mutex<HashSet<String>>,
    counts: Mutex<HashMap<String, usize>>,
    answers: Mutex<Vec<Value>>,
    kept: Mutex<Option<String>>,
    /// What the client said last that it can do.
    declared: Mutex<Value>,
    /// The parameters of what it wants to be told.
    told: Mutex<Vec<Value>>,
    /// The headers of each method's last request.
    headers: Mutex<HashMap<String, HeaderMap>>,
    /// When a polled stream ended.
    ended: Mutex<Option<Instant>>,
    listeners: Mutex<Vec<mpsc::Sender<Bytes>>>,
    changed: Notify,
    /// Whether a GET without `Last-Event-ID` gets a stream.
    listens: bool,
}

impl FaultServer {
    pub(crate) async fn start() -> Self {
        Self::with(false).await
    }

    /// A server with a GET stream.
    pub(crate) async fn listening() -> Self {
        Self::with(true).await
    }

    async fn with(listens: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            fault: Mutex::default(),
            sessions: Mutex::default(),
            counts: Mutex::default(),
            answers: Mutex::default(),
            kept: Mutex::default(),
            declared: Mutex::default(),
            told: Mutex::default(),
            headers: Mutex::default(),
            ended: Mutex::default(),
            listeners: Mutex::default(),
            changed: Notify::new(),
            listens,
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                serving.count("connections");
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let state = Arc::clone(&state);
                        async move { Ok::<_, Infallible>(state.serve(request).await) }
                    });
                    // A broken connection is what some of the tests want.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub(crate) fn fault(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// How often a method (JSON-RPC, or `GET`, `DELETE`, `connections`) was seen.
    pub(crate) fn seen(&self, what: &str) -> usize {
        self.state
            .counts
            .lock()
            .unwrap()
            .get(what)
            .copied()
            .unwrap_or(0)
    }

    /// Waits until a method was seen that often.
    pub(crate) async fn wait_seen(&self, what: &str, times: usize) {
        while self.seen(what) < times {
            self.state.changed.notified().await;
        }
    }

    /// Every answer the client gave to a question, in order.
    pub(crate) fn answers(&self) -> Vec<Value> {
        self.state.answers.lock().unwrap().clone()
    }

    /// What the client declared in its last `initialize`.
    pub(crate) fn declared(&self) -> Value {
        self.state.declared.lock().unwrap().clone()
    }

    /// The parameters of every `resources/subscribe` and the like that was taken, in order.
    pub(crate) fn told(&self) -> Vec<Value> {
        self.state.told.lock().unwrap().clone()
    }

    /// A header of the last request of a method (JSON-RPC, or `GET`).
    pub(crate) fn header(&self, method: &str, name: &str) -> Option<String> {
        let headers = self.state.headers.lock().unwrap();
        let value = headers.get(method)?.get(name)?;
        value.to_str().ok().map(str::to_owned)
    }

    /// Says something on every open GET stream.
    pub(crate) async fn push(&self, message: &Value) {
        let listeners = self.state.listeners.lock().unwrap().clone();
        for listener in listeners {
            let _ = listener.send(event(message, None)).await;
        }
    }

    /// Forgets every session.
    pub(crate) fn forget(&self) {
        self.state.sessions.lock().unwrap().clear();
    }
}

impl State {
    fn count(&self, what: &str) {
        *self
            .counts
            .lock()
            .unwrap()
            .entry(what.to_owned())
            .or_default() += 1;
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    fn note(&self, method: &str, headers: &HeaderMap) {
        let mut noted = self.headers.lock().unwrap();
        noted.insert(method.to_owned(), headers.clone());
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        match head.method {
            Method::GET => {
                self.note("GET", &head.headers);
                return self.get(&head.headers);
            }
            Method::DELETE => {
                self.count("DELETE");
                return plain(200, "text/plain", String::new());
            }
            _ => {}
        }
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let method = message["method"].as_str().unwrap_or("answer").to_owned();
        self.note(&method, &head.headers);
        self.count(&method);
        match &*method {
            "server/discover" => reply(
                &message,
                &json!({"code": -32601, "message": "unknown"}),
                "error",
            ),
            "initialize" if matches!(*self.fault.lock().unwrap(), Fault::NoGreeting) => {
                std::future::pending().await
            }
            "initialize" => self.initialize(&message),
            "tools/call" | "tools/list" | "resources/subscribe" | "logging/setLevel"
                if !self.knows(&head.headers) =>
            {
                self.forgotten()
            }
            "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => {
                self.told.lock().unwrap().push(message["params"].clone());
                reply(&message, &json!({}), "result")
            }
            "tools/list" => reply(&message, &json!({"tools": []}), "result"),
            "tools/call" => self.call(&message).await,
            "answer" => self.answered(message).await,
            _ => plain(202, "text/plain", String::new()),
        }
    }

    fn initialize(&self, message: &Value) -> Response<Body> {
        let declared = &message["params"]["capabilities"];
        self.declared.lock().unwrap().clone_from(declared);
        if let Fault::Unreadable(pointer) = *self.fault.lock().unwrap()
            && declared.pointer(pointer).is_some()
        {
            let error = json!({"code": -32603, "message": "Unrecognized field"});
            return reply(message, &error, "error");
        }
        let session = format!("s-{}", self.seen_initialize());
        self.sessions.lock().unwrap().insert(session.clone());
        let result = json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "faults", "version": "1"}});
        let mut response = reply(message, &result, "result");
        response
            .headers_mut()
            .insert("mcp-session-id", session.parse().unwrap());
        response
    }

    fn seen_initialize(&self) -> usize {
        self.counts.lock().unwrap()["initialize"]
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        if let Fault::ForgetOnce(_) = *self.fault.lock().unwrap() {
            self.sessions.lock().unwrap().remove("s-1");
        }
        let session = headers
            .get("mcp-session-id")
            .and_then(|id| id.to_str().ok())
            .unwrap_or_default();
        self.sessions.lock().unwrap().contains(session)
    }

    fn forgotten(&self) -> Response<Body> {
        let status = match *self.fault.lock().unwrap() {
            Fault::ForgetOnce(status) => status,
            _ => 404,
        };
        plain(
            status,
            "text/plain",
            "Bad Request: No valid session ID provided".to_owned(),
        )
    }

    async fn call(&self, message: &Value) -> Response<Body> {
        let fault = self.fault.lock().unwrap().clone();
        let echo = json!({"content": [{"type": "text", "text": message["params"]["arguments"]["message"]}]});
        let done = json!({"jsonrpc": "2.0", "id": message["id"], "result": echo});
        match fault {
            Fault::None
            | Fault::NoGreeting
            | Fault::ForgetOnce(_)
            | Fault::Unreadable(_)
            | Fault::ShortStreams => plain(200, "application/json", done.to_string()),
            Fault::Answer(status, kind, body) => plain(status, kind, body),
            Fault::Header(status, name, value) => {
                let mut response = plain(status, "text/plain", "the body of a refusal".to_owned());
                response.headers_mut().insert(name, value.parse().unwrap());
                response
            }
            Fault::WrongId => plain(
                200,
                "application/json",
                json!({"jsonrpc": "2.0", "id": 987_654, "result": echo}).to_string(),
            ),
            Fault::Truncated => {
                let half = Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"id\":");
                streaming(
                    "application/json",
                    vec![Ok(half), Err(io::Error::other("cut"))],
                )
            }
            Fault::Silent => std::future::pending().await,
            Fault::Drip => Self::drip(),
            Fault::Stream(steps) => steps_then(steps, message, &done),
            Fault::Say(messages) => {
                let messages = messages.iter().chain([&done]);
                streaming(
                    "text/event-stream",
                    messages.map(|message| Ok(event(message, None))).collect(),
                )
            }
            Fault::Dropped { resumable } => {
                let first = if resumable {
                    "id: e-1\nretry: 50\ndata:\n\n"
                } else {
                    ": nothing\n\n"
                };
                *self.kept.lock().unwrap() = resumable.then(|| done.to_string());
                streaming(
                    "text/event-stream",
                    vec![Ok(Bytes::from(first)), Err(io::Error::other("cut"))],
                )
            }
            Fault::Polled(pause_ms) => {
                *self.kept.lock().unwrap() = Some(done.to_string());
                *self.ended.lock().unwrap() =
                    Some(Instant::now() + Duration::from_millis(pause_ms));
                let first = format!("id: e-1\nretry: {pause_ms}\ndata:\n\n");
                streaming("text/event-stream", vec![Ok(Bytes::from(first))])
            }
            Fault::Ask => self.ask(message),
        }
    }

    /// The client answered our question: now the call that asked gets its result.
    async fn answered(&self, answer: Value) -> Response<Body> {
        let asked = self.kept.lock().unwrap().take();
        let asking = self.listeners.lock().unwrap().pop();
        if let (Some(id), Some(stream)) = (asked, asking) {
            let id: Value = serde_json::from_str(&id).unwrap();
            let echo = json!({"content": [{"type": "text", "text": answer["result"]["said"]}]});
            let _ = stream
                .send(event(
                    &json!({"jsonrpc": "2.0", "id": id, "result": echo}),
                    None,
                ))
                .await;
        }
        self.answers.lock().unwrap().push(answer);
        plain(202, "text/plain", String::new())
    }

    fn drip() -> Response<Body> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while sender.send(Bytes::from_static(b" ")).await.is_ok() {
                tokio::time::sleep(BEFORE_A_CUT).await;
            }
        });
        from_channel("application/json", receiver)
    }

    fn ask(&self, message: &Value) -> Response<Body> {
        let (sender, receiver) = mpsc::channel(2);
        let id = message["id"].clone();
        sender
            .try_send(event(
                &json!({"jsonrpc": "2.0", "id": "q1", "method": "roots/list"}),
                None,
            ))
            .unwrap();
        self.listeners.lock().unwrap().push(sender);
        self.kept.lock().unwrap().replace(id.to_string());
        from_channel("text/event-stream", receiver)
    }

    fn get(&self, headers: &HeaderMap) -> Response<Body> {
        self.count("GET");
        if let Fault::ShortStreams = *self.fault.lock().unwrap() {
            let event = Bytes::from_static(b"id: g-1\nretry: 250\ndata:\n\n");
            return streaming("text/event-stream", vec![Ok(event)]);
        }
        let resumed = headers.get("last-event-id").is_some_and(|id| id == "e-1");
        let too_soon = self
            .ended
            .lock()
            .unwrap()
            .is_some_and(|at| Instant::now() < at);
        let kept = if resumed && !too_soon {
            self.kept.lock().unwrap().take()
        } else {
            None
        };
        match kept {
            Some(kept) => streaming(
                "text/event-stream",
                vec![Ok(Bytes::from(format!("id: e-2\ndata: {kept}\n\n")))],
            ),
            _ if self.listens => {
                let (sender, receiver) = mpsc::channel(8);
                self.listeners.lock().unwrap().push(sender);
                self.count("listeners");
                from_channel("text/event-stream", receiver)
            }
            _ => plain(405, "text/plain", String::new()),
        }
    }
}

/// A stream of progress, a log line and the result.
fn steps_then(steps: u64, asked: &Value, done: &Value) -> Response<Body> {
    let token = &asked["params"]["_meta"]["progressToken"];
    let note = |method: &str, params: &Value| {
        let note = json!({"jsonrpc": "2.0", "method": method, "params": params});
        Ok(event(&note, None))
    };
    let progress = |step| json!({"progressToken": token, "progress": step});
    let mut events: Vec<_> = (1..=steps)
        .map(|step| note("notifications/progress", &progress(step)))
        .collect();
    let log = json!({"level": "info", "data": "nearly"});
    events.push(note("notifications/message", &log));
    events.push(Ok(event(done, None)));
    streaming("text/event-stream", events)
}

fn event(message: &Value, id: Option<&str>) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Bytes::from(format!("{id}event: message\ndata: {message}\n\n"))
}

fn reply(message: &Value, payload: &Value, member: &str) -> Response<Body> {
    plain(
        200,
        "application/json",
        json!({"jsonrpc": "2.0", "id": message["id"], member: payload}).to_string(),
    )
}

fn plain(status: u16, kind: &str, body: String) -> Response<Body> {
    let mut response = Response::new(
        Full::new(Bytes::from(body))
            .map_err(|never| match never {})
            .boxed(),
    );
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
        .headers_mut()
        .insert("content-type", kind.parse().unwrap());
    response
}

fn streaming(kind: &str, chunks: Vec<io::Result<Bytes>>) -> Response<Body> {
    // A cut comes a moment later than what stands before it, which would not be written otherwise.
    let frames = futures_util::stream::iter(chunks).then(|chunk| async {
        if chunk.is_err() {
            tokio::time::sleep(BEFORE_A_CUT).await;
        }
        chunk.map(Frame::data)
    });
    with_body(kind, BodyExt::boxed(StreamBody::new(frames)))
}

fn from_channel(kind: &str, receiver: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver
            .recv()
            .await
            .map(|chunk| (Ok(Frame::data(chunk)), receiver))
    });
    with_body(kind, BodyExt::boxed(StreamBody::new(frames)))
}

fn with_body(kind: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", kind.parse().unwrap());
    response
}
