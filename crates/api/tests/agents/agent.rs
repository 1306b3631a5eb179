//! An agent made of frames as JSON text. It does what a test tells it, frame by frame.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::kit::{Bridge, PATIENCE, eventually};

pub(crate) const SUBPROTOCOL: &str = "paperbot.tunnel.v1";

/// One connection.
pub(crate) struct Agent {
    socket: WebSocketStream<TcpStream>,
    id: String,
    connection: Option<String>,
    seq: u64,
    /// What HELLO_ACK said.
    pub(crate) welcome: Value,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

/// Dials the tunnel; the error is the HTTP status.
pub(crate) async fn dial(
    address: SocketAddr,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, u16> {
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/v1/agents/tunnel");
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// A server with one tool that reads and one that acts.
pub(crate) fn server(name: &str) -> Value {
    let tool = |name: &str, read_only: bool| {
        json!({"name": name, "description": format!("{name} things"), "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": read_only}})
    };
    json!({"server": name, "era": "legacy", "tools": [tool("look", true), tool("act", false)],
        "capabilities": {"tools": {}}, "protocol_version": "2025-11-25"})
}

pub(crate) fn text_result(text: &str) -> Value {
    json!({"ok": true, "exit_code": 0, "canceled": false,
        "result_json": {"content": [{"type": "text", "text": text}]}})
}

impl Agent {
    /// A connection on which nothing was said.
    pub(crate) async fn dialled(address: SocketAddr, id: &str) -> Self {
        let socket = dial(address, &[("sec-websocket-protocol", SUBPROTOCOL)]).await;
        Self {
            socket: socket.unwrap(),
            id: id.to_owned(),
            connection: None,
            seq: 0,
            welcome: Value::Null,
        }
    }

    /// A connection that is let in.
    pub(crate) async fn connect(address: SocketAddr, id: &str, token: &str) -> Self {
        Self::resume(address, (id, token), &[], &[]).await
    }

    /// The same, with calls of an earlier connection.
    pub(crate) async fn resume(
        address: SocketAddr,
        (id, token): (&str, &str),
        running: &[&str],
        results: &[&str],
    ) -> Self {
        let mut agent = Self::dialled(address, id).await;
        agent.hello(running, results).await;
        agent.auth(token).await;
        let welcome = agent.next().await.unwrap();
        assert_eq!(welcome["type"], "HELLO_ACK", "{welcome}");
        agent.connection = welcome["conn_session_id"]
            .as_str()
            .or(welcome["payload"]["conn_session_id"].as_str())
            .map(str::to_owned);
        agent.welcome = welcome["payload"].clone();
        agent
    }

    pub(crate) async fn hello(&mut self, running: &[&str], results: &[&str]) {
        let payload = json!({
            "agent_meta": {"hostname": "box", "os": "linux", "arch": "x86_64", "pid": 7, "version": "0", "spool_id": "s"},
            "resume": {"running": running, "results": results},
            "protocol": {"min": 1, "max": 1},
        });
        self.say("HELLO", None, &payload).await;
    }

    pub(crate) async fn auth(&mut self, token: &str) {
        self.say("AUTH", None, &json!({"token": token})).await;
    }

    /// Sends a frame.
    pub(crate) async fn say(&mut self, kind: &str, req_id: Option<&str>, payload: &Value) {
        self.seq += 1;
        let mut frame = json!({"v": 1, "type": kind, "agent_id": self.id, "seq": self.seq, "ts": 1, "payload": payload});
        if let Some(req_id) = req_id {
            frame["req_id"] = json!(req_id);
        }
        if let Some(connection) = &self.connection {
            frame["conn_session_id"] = json!(connection);
        }
        // A connection that is being closed may break here; how it ended is read.
        let _ = self.socket.send(Message::text(frame.to_string())).await;
    }

    pub(crate) async fn raw(&mut self, text: String) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    pub(crate) async fn tools(&mut self, servers: &[Value]) {
        let payload = json!({"generation": 1, "servers": servers});
        self.say("TOOLS", None, &payload).await;
    }

    /// The next frame that is no ping; how the connection ended when there is none.
    pub(crate) async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let text = match next.expect("a frame, or the end") {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(frame))) => {
                    return Err(Closed {
                        code: frame.as_ref().map(|frame| frame.code.into()),
                        reason: frame
                            .map(|frame| frame.reason.to_string())
                            .unwrap_or_default(),
                    });
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => {
                    return Err(Closed {
                        code: None,
                        reason: "gone".to_owned(),
                    });
                }
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match frame["type"].as_str() {
                Some("PING") => self.say("PONG", None, &json!({})).await,
                Some("GOODBYE") => {}
                _ => return Ok(frame),
            }
        }
    }

    /// The next frame, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await.unwrap();
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// The next call, acknowledged.
    pub(crate) async fn invoked(&mut self) -> (String, Value) {
        let frame = self.expect("INVOKE").await;
        let req_id = frame["req_id"].as_str().unwrap().to_owned();
        let ack = json!({"accepted": true});
        self.say("INVOKE_ACK", Some(&req_id), &ack).await;
        (req_id, frame["payload"].clone())
    }

    pub(crate) async fn result(&mut self, req_id: &str, payload: &Value) {
        self.say("RESULT", Some(req_id), payload).await;
    }

    /// How the connection ends.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }

    /// Breaks the line without a word.
    pub(crate) fn cut(self) {
        drop(self);
    }
}

/// A token of the user behind a key.
pub(crate) async fn token(bridge: &Bridge, key: &str, id: &str, reset: bool) -> String {
    let body = json!({"agent_id": id, "reset": reset});
    let issued = with_key(bridge, key, "POST /v1/agents/tokens", &body).await;
    assert_eq!(issued.status, 201, "{}", issued.text());
    issued.json()["token"].as_str().unwrap().to_owned()
}

pub(crate) async fn with_key(
    bridge: &Bridge,
    key: &str,
    line: &str,
    body: &Value,
) -> crate::kit::Reply {
    let authorization = format!("authorization: Bearer {key}");
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    bridge.send(line, &[&authorization], &body).await
}

/// Waits until a tool stands in the catalogue of the user behind a key, and is not stale.
pub(crate) async fn listed(bridge: &Bridge, key: &str, reference: &str) {
    eventually(reference, || async {
        let page = with_key(bridge, key, "GET /v1/catalog?limit=500", &Value::Null).await;
        let page = page.json();
        let fresh = |item: &Value| item["ref"] == reference && item["stale"] != true;
        page["items"].as_array()?.iter().any(fresh).then_some(())
    })
    .await;
}

/// A bridge, and the admin's agent `laptop` with the server `files`, listed.
pub(crate) async fn ready() -> (Bridge, Agent, String) {
    let bridge = Bridge::start("").await;
    let key = bridge.key.clone();
    let token = token(&bridge, &key, "laptop", false).await;
    let mut agent = Agent::connect(bridge.address, "laptop", &token).await;
    agent.tools(&[server("files")]).await;
    listed(&bridge, &key, "laptop-files.look").await;
    (bridge, agent, token)
}

/// A moment in which something that must not happen would.
pub(crate) async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}
