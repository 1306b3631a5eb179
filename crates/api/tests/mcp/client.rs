//! A client of the bridge's MCP endpoints that says exactly what a test wants said.

use std::fmt::Write as _;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::kit::{Bridge, PATIENCE};

const BOTH: &str = "application/json, text/event-stream";

/// A request and its answer as far as it is read.
pub(crate) struct Exchange {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    body: Incoming,
    buffer: String,
    /// Dropped with it, so that the bridge sees the client go.
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

pub(crate) struct Wish<'a> {
    pub(crate) verb: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: String,
}

/// Sends one request over a connection of its own.
pub(crate) async fn send(bridge: &Bridge, wish: Wish<'_>) -> Exchange {
    let stream = TcpStream::connect(bridge.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::builder()
        .method(wish.verb)
        .uri(wish.path)
        .header("host", bridge.address.to_string());
    let has = |name: &str| {
        wish.headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    if !has("authorization") {
        request = request.header("authorization", format!("Bearer {}", bridge.key));
    }
    if !has("accept") {
        request = request.header(
            "accept",
            if wish.verb == "GET" {
                "text/event-stream"
            } else {
                BOTH
            },
        );
    }
    for (name, value) in wish.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(wish.body))).unwrap();
    let response: Response<Incoming> = tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let (head, body) = response.into_parts();
    Exchange {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        buffer: String::new(),
        connection,
    }
}

impl Exchange {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    async fn more(&mut self) -> bool {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
        match frame.expect("something within the patience") {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                self.buffer.push_str(&String::from_utf8_lossy(&data));
                true
            }
            Some(Err(_)) | None => false,
        }
    }

    /// The whole body.
    pub(crate) async fn text(&mut self) -> String {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    pub(crate) async fn json(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }

    /// The next event of a stream, comments skipped: id and data. `None` at the end.
    pub(crate) async fn event(&mut self) -> Option<(Option<String>, String)> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let frame: String = self.buffer.drain(..end + 2).collect();
                let line = |name: &str| {
                    frame
                        .lines()
                        .find_map(|line| line.strip_prefix(name).map(str::trim).map(str::to_owned))
                };
                match line("data:") {
                    Some(data) => return Some((line("id:"), data)),
                    None => continue,
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next message of a stream; events without one are skipped.
    pub(crate) async fn message(&mut self) -> Option<Value> {
        loop {
            let (_, data) = self.event().await?;
            if !data.is_empty() {
                return Some(serde_json::from_str(&data).unwrap());
            }
        }
    }

    /// The answer, whether it is the body or the last message of a stream.
    pub(crate) async fn answer(&mut self) -> Value {
        if !self.is_stream() {
            return self.json().await;
        }
        let mut last = Value::Null;
        while let Some(message) = self.message().await {
            last = message;
        }
        last
    }
}

/// A client of 2025-11-25 or older, with its session.
pub(crate) struct Legacy<'a> {
    pub(crate) bridge: &'a Bridge,
    pub(crate) path: String,
    pub(crate) session: String,
    pub(crate) greeting: Value,
}

impl<'a> Legacy<'a> {
    pub(crate) async fn open(bridge: &'a Bridge, path: &str, capabilities: Value) -> Self {
        Self::speaking(bridge, path, ("2025-11-25", capabilities)).await
    }

    pub(crate) async fn speaking(
        bridge: &'a Bridge,
        path: &str,
        (version, capabilities): (&str, Value),
    ) -> Self {
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "1"}}});
        let wish = Wish {
            verb: "POST",
            path,
            headers: &[],
            body: body.to_string(),
        };
        let mut opened = send(bridge, wish).await;
        assert_eq!(opened.status, 200);
        let session = opened.header("mcp-session-id").unwrap().to_owned();
        let client = Self {
            bridge,
            path: path.to_owned(),
            session,
            greeting: opened.json().await,
        };
        let told = client
            .raw(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        assert_eq!(told.status, 202);
        client
    }

    pub(crate) async fn raw(&self, body: &str) -> Exchange {
        self.with(&[], body).await
    }

    pub(crate) async fn with(&self, headers: &[(&str, &str)], body: &str) -> Exchange {
        let mut all = vec![("mcp-session-id", self.session.as_str())];
        all.extend_from_slice(headers);
        let wish = Wish {
            verb: "POST",
            path: &self.path,
            headers: &all,
            body: body.to_owned(),
        };
        send(self.bridge, wish).await
    }

    pub(crate) async fn ask(&self, id: u64, method: &str, params: Value) -> Exchange {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.raw(&body.to_string()).await
    }

    pub(crate) async fn answer(&self, id: u64, method: &str, params: Value) -> Value {
        self.ask(id, method, params).await.answer().await
    }

    pub(crate) async fn get(&self, headers: &[(&str, &str)]) -> Exchange {
        let mut all = vec![("mcp-session-id", self.session.as_str())];
        all.extend_from_slice(headers);
        let wish = Wish {
            verb: "GET",
            path: &self.path,
            headers: &all,
            body: String::new(),
        };
        send(self.bridge, wish).await
    }

    pub(crate) async fn delete(&self) -> u16 {
        let wish = Wish {
            verb: "DELETE",
            path: &self.path,
            headers: &[("mcp-session-id", self.session.as_str())],
            body: String::new(),
        };
        send(self.bridge, wish).await.status
    }
}

/// A client of 2026-07-28.
pub(crate) struct Modern<'a> {
    pub(crate) bridge: &'a Bridge,
    pub(crate) path: String,
    pub(crate) capabilities: Value,
}

impl<'a> Modern<'a> {
    pub(crate) fn new(bridge: &'a Bridge, path: &str, capabilities: Value) -> Self {
        Self {
            bridge,
            path: path.to_owned(),
            capabilities,
        }
    }

    fn meta(&self) -> Value {
        json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        })
    }

    /// A request with everything in its place.
    pub(crate) async fn ask(&self, id: u64, method: &str, params: Value) -> Exchange {
        self.with(&[], (id, method, params)).await
    }

    pub(crate) async fn with(
        &self,
        headers: &[(&str, &str)],
        (id, method, mut params): (u64, &str, Value),
    ) -> Exchange {
        let mut meta = self.meta();
        for (name, value) in params["_meta"].as_object().into_iter().flatten() {
            meta[name] = value.clone();
        }
        params["_meta"] = meta;
        let named = ["name", "uri", "taskId"]
            .iter()
            .find_map(|name| params[name].as_str());
        let named = named.unwrap_or_default().to_owned();
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut all = vec![
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
        ];
        if matches!(
            method,
            "tools/call"
                | "prompts/get"
                | "resources/read"
                | "tasks/get"
                | "tasks/update"
                | "tasks/cancel"
        ) {
            all.push(("mcp-name", &named));
        }
        all.extend_from_slice(headers);
        let wish = Wish {
            verb: "POST",
            path: &self.path,
            headers: &all,
            body: body.to_string(),
        };
        send(self.bridge, wish).await
    }

    pub(crate) async fn answer(&self, id: u64, method: &str, params: Value) -> Value {
        self.ask(id, method, params).await.answer().await
    }
}

/// Servers of a configuration.
pub(crate) fn servers(definitions: &[(&str, String)]) -> String {
    let mut yaml = String::from("servers:\n");
    for (name, definition) in definitions {
        let _ = writeln!(yaml, "  {name}: {definition}");
    }
    yaml
}

/// The text of a tool's result.
pub(crate) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
}
