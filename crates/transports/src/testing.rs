//! A server inside this process that speaks MCP over a stream and can be made to misbehave.
//! For tests of this crate and the crates to the right (feature `testing`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::{broadcast, mpsc};

use crate::name::{InvalidServerName, ServerName};
use crate::spec::{Endpoint, EraChoice, InProcess, ServerSpec, Timeouts, WireLimits};

/// Bytes in flight on the fake's stream.
const STREAM_BYTES: usize = 64 * 1024;

/// How the fake treats `tools/call`.
#[derive(Debug, Clone, Default)]
pub enum Behaviour {
    /// Echoes `arguments.message`.
    #[default]
    Echo,
    /// Echoes after this long; a cancellation is noted.
    Slow(Duration),
    /// Never answers.
    Silent,
    /// Sends this line instead of an answer; `@ID@` stands for the request's id.
    Line(String),
    /// Reports this many steps of progress, then echoes.
    Progress(u64),
    /// Ends the stream.
    Leave,
    /// Answers with this JSON-RPC error.
    Refuse(i64, String),
    /// Asks the client this method before it answers, and echoes the client's answer.
    Ask(String),
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    tools: Mutex<Vec<Value>>,
    modern: bool,
    initialized: AtomicUsize,
    lists: AtomicUsize,
    calls: AtomicUsize,
    cancelled: AtomicUsize,
    pings: AtomicUsize,
    opened: AtomicUsize,
    deaf: std::sync::atomic::AtomicBool,
    refusing: std::sync::atomic::AtomicBool,
    push: broadcast::Sender<String>,
    kick: broadcast::Sender<()>,
    seen: Mutex<Vec<Value>>,
    asks: AtomicU64,
}

/// The fake. Clones are the same server; each connection is a task of its own.
#[derive(Debug, Clone)]
pub struct FakeServer(Arc<Shared>);

impl FakeServer {
    /// A legacy server with one read-only tool, `echo`, and one that is not, `write`.
    #[must_use]
    pub fn legacy() -> Self {
        Self::new(false)
    }

    /// The same in the modern era.
    #[must_use]
    pub fn modern() -> Self {
        Self::new(true)
    }

    fn new(modern: bool) -> Self {
        let schema = json!({"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]});
        let tools = vec![
            json!({"name": "echo", "description": "Says it again.", "inputSchema": schema, "annotations": {"readOnlyHint": true}}),
            json!({"name": "write", "description": "Writes it down.", "inputSchema": schema}),
        ];
        Self(Arc::new(Shared {
            behaviour: Mutex::default(),
            tools: Mutex::new(tools),
            modern,
            initialized: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            pings: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            deaf: std::sync::atomic::AtomicBool::new(false),
            refusing: std::sync::atomic::AtomicBool::new(false),
            push: broadcast::channel(64).0,
            kick: broadcast::channel(4).0,
            seen: Mutex::default(),
            asks: AtomicU64::new(900),
        }))
    }

    /// Changes how calls are treated from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self
            .0
            .behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Replaces the tools and tells every connection that the list changed.
    pub fn set_tools(&self, tools: Vec<Value>) {
        *self.0.tools.lock().unwrap_or_else(PoisonError::into_inner) = tools;
        self.push(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    }

    /// Sends a message to every connection.
    pub fn push(&self, message: &Value) {
        let _ = self.0.push.send(message.to_string());
    }

    /// Ends every connection.
    pub fn kick(&self) {
        let _ = self.0.kick.send(());
    }

    /// From now on answers nothing at all, not even a ping.
    pub fn go_deaf(&self, deaf: bool) {
        self.0.deaf.store(deaf, Ordering::SeqCst);
    }

    /// From now on ends every new connection at once.
    pub fn refuse_connections(&self, refuse: bool) {
        self.0.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Connections opened so far.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.0.opened.load(Ordering::SeqCst)
    }

    /// Handshakes finished so far.
    #[must_use]
    pub fn initialized(&self) -> usize {
        self.0.initialized.load(Ordering::SeqCst)
    }

    /// `tools/list` requests so far.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.0.lists.load(Ordering::SeqCst)
    }

    /// `tools/call` requests so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Cancellations so far.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Pings so far.
    #[must_use]
    pub fn pings(&self) -> usize {
        self.0.pings.load(Ordering::SeqCst)
    }

    /// Every `tools/call` as it arrived.
    #[must_use]
    pub fn seen(&self) -> Vec<Value> {
        self.0
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How to reach this server.
    ///
    /// # Errors
    /// [`InvalidServerName`].
    pub fn spec(&self, name: &str) -> Result<ServerSpec, InvalidServerName> {
        let server = self.clone();
        Ok(ServerSpec {
            name: ServerName::new(name)?,
            endpoint: Endpoint::InProcess(InProcess(Arc::new(move || server.connect()))),
            era: EraChoice::Auto,
            timeouts: Timeouts::default(),
            limits: WireLimits::default(),
        })
    }

    /// The client's end of a new connection.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        if !self.0.refusing.load(Ordering::SeqCst) {
            tokio::spawn(self.clone().serve(ours));
        }
        theirs
    }

    async fn serve(self, stream: DuplexStream) {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut lines = BufReader::new(reader).lines();
        let (answers, mut outgoing) = mpsc::channel::<Option<String>>(256);
        let (mut pushed, mut kicked) = (self.0.push.subscribe(), self.0.kick.subscribe());
        let mut running: std::collections::HashMap<String, tokio::task::JoinHandle<()>> =
            std::collections::HashMap::new();
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else { return };
                    if self.0.deaf.load(Ordering::SeqCst) { continue; }
                    let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                    self.take(&message, &answers, &mut running);
                }
                answer = outgoing.recv() => match answer.flatten() {
                    Some(answer) => {
                        if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() { return }
                    }
                    None => return,
                },
                Ok(message) = pushed.recv() => {
                    if writer.write_all(format!("{message}\n").as_bytes()).await.is_err() { return }
                }
                Ok(()) = kicked.recv() => return,
            }
        }
    }

    fn take(
        &self,
        message: &Value,
        answers: &mpsc::Sender<Option<String>>,
        running: &mut std::collections::HashMap<String, tokio::task::JoinHandle<()>>,
    ) {
        let id = message["id"].clone();
        let result =
            |result: Value| Some(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
        let refuse = |code: i64, text: &str| {
            Some(
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})
                    .to_string(),
            )
        };
        let answer = match message["method"].as_str().unwrap_or_default() {
            "server/discover" | "initialize" => match self.greet(message) {
                Some(greeting) => result(greeting),
                None => refuse(-32601, "no such method"),
            },
            "ping" => {
                self.0.pings.fetch_add(1, Ordering::SeqCst);
                result(json!({}))
            }
            "tools/list" => result(self.list()),
            "tools/call" => {
                self.0.calls.fetch_add(1, Ordering::SeqCst);
                self.0
                    .seen
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(message.clone());
                let (server, message, answers) = (self.clone(), message.clone(), answers.clone());
                running.retain(|_, task| !task.is_finished());
                running.insert(
                    id.to_string(),
                    tokio::spawn(async move { server.call(&message, &answers).await }),
                );
                return;
            }
            "notifications/cancelled" => {
                self.0.cancelled.fetch_add(1, Ordering::SeqCst);
                if let Some(task) = running.remove(&message["params"]["requestId"].to_string()) {
                    task.abort();
                }
                return;
            }
            "" if id.as_u64().is_some_and(|id| id >= 900) => {
                let _ = self.0.push.send(json!({"answered": message}).to_string());
                self.0
                    .seen
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(message.clone());
                return;
            }
            _ if id.is_null() => return,
            _ => refuse(-32601, "no such method"),
        };
        let _ = answers.try_send(answer);
    }

    fn list(&self) -> Value {
        self.0.lists.fetch_add(1, Ordering::SeqCst);
        json!({"tools": *self.0.tools.lock().unwrap_or_else(PoisonError::into_inner)})
    }

    /// The handshake of its era; `None` for the other's.
    fn greet(&self, message: &Value) -> Option<Value> {
        let capabilities = json!({"tools": {"listChanged": true}});
        let discovers = message["method"] == "server/discover";
        if discovers != self.0.modern {
            return None;
        }
        let version = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
        if !discovers || version == "2026-07-28" {
            self.0.initialized.fetch_add(1, Ordering::SeqCst);
        }
        Some(if discovers {
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities})
        } else {
            let version = &message["params"]["protocolVersion"];
            json!({"protocolVersion": version, "capabilities": capabilities, "serverInfo": {"name": "fake", "version": "1"}})
        })
    }

    async fn call(&self, message: &Value, answers: &mpsc::Sender<Option<String>>) {
        let id = &message["id"];
        let behaviour = self
            .0
            .behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let text = message["params"]["arguments"]["message"].clone();
        let echo = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}).to_string();
        let send = |line: String| async move {
            let _ = answers.send(Some(line)).await;
        };
        match behaviour {
            Behaviour::Echo => send(echo).await,
            Behaviour::Slow(wait) => {
                tokio::time::sleep(wait).await;
                send(echo).await;
            }
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Line(line) => send(line.replace("@ID@", &id.to_string())).await,
            Behaviour::Progress(steps) => {
                let token = &message["params"]["_meta"]["progressToken"];
                for step in 1..=steps {
                    send(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": step, "total": steps}}).to_string()).await;
                }
                send(echo).await;
            }
            Behaviour::Leave => {
                let _ = answers.send(None).await;
            }
            Behaviour::Refuse(code, words) => {
                send(
                    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": words}})
                        .to_string(),
                )
                .await;
            }
            Behaviour::Ask(method) => {
                let ask = self.0.asks.fetch_add(1, Ordering::SeqCst);
                send(
                    json!({"jsonrpc": "2.0", "id": ask, "method": method, "params": {}})
                        .to_string(),
                )
                .await;
                send(echo).await;
            }
        }
    }
}
