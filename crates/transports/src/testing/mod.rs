//! A server inside this process that speaks MCP over a stream and can be made to misbehave.
//! For tests of this crate and the crates to the right (feature `testing`).

mod serving;
pub mod tunnel;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::broadcast;

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
    /// As `Line`, until a call brings `inputResponses`; that one is echoed.
    LineOnce(String),
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
    /// Every message but calls and their answers.
    heard: Mutex<Vec<Value>>,
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
            heard: Mutex::default(),
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

    /// Every message of this method, as it arrived; calls and their answers are in [`Self::seen`].
    #[must_use]
    pub fn heard(&self, method: &str) -> Vec<Value> {
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let of_method = heard.iter().filter(|message| message["method"] == method);
        of_method.cloned().collect()
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
}
