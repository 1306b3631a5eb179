//! An agent played by hand: it says what a test wants said, right or wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use transports::testing::tunnel::{MemorySocket, socket_pair};
use transports::tunnel::bridge::{
    Admission, Agent, AgentCatalogue, AgentFacts, AgentOwner, Door, Fate, Invocation, OwnFuture,
    Refused, ServeEnd, serve,
};
use transports::tunnel::frame::{Auth, CallResult, Hello, InvokeAck, ResumeAnswer};
use transports::tunnel::{AgentId, Frame, FrameSocket as _, Kind, Payload, ReqId};

pub(crate) const TOKEN: &str = "good";

/// What the bridge half told.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    pub(crate) told: Mutex<Vec<String>>,
    pub(crate) fates: Mutex<HashMap<String, Fate>>,
}

impl Owner {
    fn tell(&self, what: impl Into<String>) {
        self.told.lock().unwrap().push(what.into());
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl AgentOwner for Owner {
    fn online(&self, facts: &AgentFacts) {
        self.tell(format!("online {}", facts.epoch));
    }

    fn offline(&self, why: &str) {
        self.tell(format!("offline: {why}"));
    }

    fn catalogue(&self, catalogue: Arc<AgentCatalogue>) {
        self.tell(format!("catalogue {}", catalogue.generation));
    }

    fn fate(&self, req_id: &ReqId) -> OwnFuture<Fate> {
        let fate = self.fates.lock().unwrap().get(req_id.as_str()).copied();
        self.tell(format!("fate of {req_id}"));
        Box::pin(async move { fate.unwrap_or(Fate::Unknown) })
    }
}

/// The bridge's side of a test.
#[derive(Clone)]
pub(crate) struct Bridge {
    pub(crate) agent: Agent,
    pub(crate) owner: Arc<Owner>,
    pub(crate) resume: Arc<Mutex<ResumeAnswer>>,
    epoch: Arc<Mutex<u64>>,
}

impl Door for Bridge {
    async fn admit(&self, _: &AgentId, _: &Hello, auth: &Auth) -> Result<Admission, Refused> {
        use secrecy::ExposeSecret as _;
        if auth.token.expose_secret() != TOKEN {
            let reason = "the token is not good".to_owned();
            return Err(Refused { reason });
        }
        let mut epoch = self.epoch.lock().unwrap();
        *epoch += 1;
        Ok(Admission {
            agent: self.agent.clone(),
            epoch: *epoch,
            resume: self.resume.lock().unwrap().clone(),
        })
    }
}

pub(crate) fn raw(json: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(json).unwrap()
}

pub(crate) fn id(text: &str) -> ReqId {
    ReqId::new(text).unwrap()
}

pub(crate) fn agent_id() -> AgentId {
    AgentId::new("laptop").unwrap()
}

/// A call of a tool, of ten seconds.
pub(crate) fn invocation(req_id: &str) -> Invocation {
    Invocation {
        req_id: id(req_id),
        server: "files".to_owned(),
        method: "tools/call".into(),
        params: raw(&json!({"name": "echo", "arguments": {"message": req_id}})),
        timeout: Duration::from_secs(10),
        isolation_key: String::new(),
        progress: None,
        acknowledge: false,
    }
}

impl Bridge {
    pub(crate) fn new() -> Self {
        let owner = Arc::<Owner>::default();
        Self {
            agent: Agent::new(agent_id(), Arc::clone(&owner) as Arc<dyn AgentOwner>),
            owner,
            resume: Arc::default(),
            epoch: Arc::default(),
        }
    }

    /// A connection on which nothing was said yet.
    pub(crate) fn line(&self) -> Played {
        let (ours, theirs) = socket_pair();
        self.line_over(ours, theirs)
    }

    fn line_over(&self, ours: MemorySocket, theirs: MemorySocket) -> Played {
        let door = self.clone();
        let served = tokio::spawn(async move { serve(theirs, &door).await });
        Played {
            socket: Some(ours),
            served,
            seq: 0,
            conn: None,
        }
    }

    /// A connection that stands.
    pub(crate) async fn connect(&self) -> Played {
        self.connect_as(Hello::default()).await
    }

    pub(crate) async fn connect_as(&self, hello: Hello) -> Played {
        let mut line = self.line();
        line.hello(hello).await;
        line
    }

    /// A connection that stands, over this machine only.
    pub(crate) async fn connect_local(&self) -> Played {
        let (mut ours, mut theirs) = socket_pair();
        (ours.local, theirs.local) = (true, true);
        let mut line = self.line_over(ours, theirs);
        line.hello(Hello::default()).await;
        line
    }

    /// Makes a call in the background.
    pub(crate) fn calls(
        &self,
        invocation: Invocation,
    ) -> JoinHandle<Result<String, transports::RequestError>> {
        let agent = self.agent.clone();
        let call = async move { agent.invoke(invocation).await };
        tokio::spawn(async move { call.await.map(|raw| raw.get().to_owned()) })
    }
}

/// The agent's end of a connection.
pub(crate) struct Played {
    pub(crate) socket: Option<MemorySocket>,
    served: JoinHandle<ServeEnd>,
    pub(crate) seq: u64,
    pub(crate) conn: Option<Arc<str>>,
}

impl Played {
    pub(crate) fn socket(&mut self) -> &mut MemorySocket {
        self.socket.as_mut().unwrap()
    }

    pub(crate) fn frame(&mut self, req_id: Option<&str>, payload: Payload) -> Frame {
        self.seq += 1;
        Frame {
            agent_id: agent_id(),
            req_id: req_id.map(id),
            conn_session_id: self.conn.clone(),
            seq: self.seq,
            ts: 1,
            payload,
        }
    }

    pub(crate) async fn say(&mut self, req_id: Option<&str>, payload: Payload) {
        let text = self.frame(req_id, payload).encode();
        self.socket().send(text).await.unwrap();
    }

    pub(crate) async fn auth(&mut self, token: &str) {
        let auth = Auth {
            token: token.to_owned().into(),
            device_fingerprint: None,
        };
        self.say(None, Payload::Auth(auth)).await;
    }

    async fn hello(&mut self, hello: Hello) {
        self.say(None, Payload::Hello(Box::new(hello))).await;
        self.auth(TOKEN).await;
        let ack = self.hears(Kind::HelloAck).await;
        let Payload::HelloAck(ack) = ack.payload else {
            unreachable!()
        };
        self.conn = Some(ack.conn_session_id);
    }

    /// The next frame, which must be of this type. PINGs are passed over.
    pub(crate) async fn hears(&mut self, kind: Kind) -> Frame {
        loop {
            let text = self.socket().recv().await.expect("closed").unwrap();
            let frame = Frame::decode(&text).unwrap();
            if frame.payload.kind() != Kind::Ping || kind == Kind::Ping {
                assert_eq!(frame.payload.kind(), kind, "{text}");
                return frame;
            }
        }
    }

    /// Hears nothing for a while.
    pub(crate) async fn hears_nothing(&mut self) {
        let heard = tokio::time::timeout(Duration::from_secs(1), self.socket().recv()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// Takes the next call and says so.
    pub(crate) async fn takes(&mut self, req_id: &str) -> Frame {
        let frame = self.hears(Kind::Invoke).await;
        assert_eq!(frame.req_id.as_deref(), Some(req_id));
        let ack = InvokeAck {
            accepted: true,
            duplicate: false,
            state: None,
            reason: None,
        };
        self.say(Some(req_id), Payload::InvokeAck(ack)).await;
        frame
    }

    pub(crate) async fn result(&mut self, req_id: &str, result: &Value) {
        let result = Payload::Result(CallResult::done(raw(result)));
        self.say(Some(req_id), result).await;
    }

    /// How the bridge ended the connection: the close it sent, and what `serve` gave.
    pub(crate) async fn end(mut self) -> (Option<u16>, String) {
        let socket = self.socket.take().unwrap();
        let mut socket = socket;
        while socket.recv().await.is_some() {}
        let end = self.served.await.unwrap();
        let said = socket.closed_with();
        match end {
            ServeEnd::Closed { code, reason } => {
                assert_eq!(said, Some((code, reason.clone())));
                (Some(code), reason)
            }
            ServeEnd::Lost(why) => {
                assert_eq!(said, None);
                (None, why)
            }
        }
    }

    /// How the bridge ends the connection while nothing of it is read.
    pub(crate) async fn ends_unread(&mut self) -> ServeEnd {
        (&mut self.served).await.unwrap()
    }

    /// Cuts the line and waits until the bridge has noticed.
    pub(crate) async fn cut(mut self) -> ServeEnd {
        self.socket.take().unwrap().cut();
        self.served.await.unwrap()
    }
}
