//! Open streams end with the credential they were opened with, whichever face they belong to.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::kit::{Bridge, PATIENCE, demo};

/// An answer without an end, as far as it was read.
pub(crate) struct Open {
    socket: TcpStream,
    text: String,
}

impl Open {
    pub(crate) async fn new(bridge: &Bridge, line: &str, headers: &[&str], body: &str) -> Self {
        let mut socket = bridge.connect().await;
        let bytes = bridge.request(line, headers, body);
        socket.write_all(bytes.as_bytes()).await.unwrap();
        let text = String::new();
        let mut open = Self { socket, text };
        open.until("text/event-stream").await;
        assert!(
            open.text.starts_with("HTTP/1.1 200"),
            "{line}: {}",
            open.text
        );
        open
    }

    /// Reads on until this was told.
    pub(crate) async fn until(&mut self, told: &str) {
        while !self.text.contains(told) {
            assert!(self.more().await, "it ended after {}", self.text);
        }
    }

    async fn more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut bytes)).await;
        let count = read.expect("something within the patience").unwrap_or(0);
        self.text
            .push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }

    /// Reads to the end: the last chunk was sent, so nobody takes it for a broken line.
    pub(crate) async fn ends(mut self) {
        while self.more().await {}
        assert!(self.text.ends_with("0\r\n\r\n"), "{}", self.text);
    }
}

fn auth(key: &str) -> String {
    format!("authorization: Bearer {key}")
}

/// One stream of every kind there is, held with this key.
async fn one_of_each(bridge: &Bridge, key: &str) -> Vec<(&'static str, Open)> {
    let auth = auth(key);
    let slow = json!({"ref": "demo.slow", "arguments": {"steps": 600}}).to_string();
    let async_call = ["prefer: respond-async", &auth];
    let accepted = bridge.send("POST /v1/calls", &async_call, &slow).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let call = accepted.json()["call_id"].as_str().unwrap().to_owned();
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let both = "accept: application/json, text/event-stream";
    let greeted = bridge
        .send("POST /mcp", &[&auth, both], &hello.to_string())
        .await;
    let session = format!(
        "mcp-session-id: {}",
        greeted.header("mcp-session-id").unwrap()
    );
    let listen = json!({"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": {
        "notifications": {"toolsListChanged": true}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}}}});
    let modern = [
        &*auth,
        both,
        "mcp-protocol-version: 2026-07-28",
        "mcp-method: subscriptions/listen",
    ];
    let events = "accept: text/event-stream";
    let call_events = format!("GET /v1/calls/{call}/events");
    vec![
        (
            "/v1/events",
            Open::new(bridge, "GET /v1/events", &[&auth], "").await,
        ),
        (
            "/v1/calls/{id}/events",
            Open::new(bridge, &call_events, &[&auth], "").await,
        ),
        (
            "a streamed call",
            Open::new(bridge, "POST /v1/calls", &[&auth, events], &slow).await,
        ),
        (
            "GET /mcp",
            Open::new(bridge, "GET /mcp", &[&auth, events, &session], "").await,
        ),
        (
            "listen",
            Open::new(bridge, "POST /mcp", &modern, &listen.to_string()).await,
        ),
        (
            "/sse",
            Open::new(bridge, "GET /sse", &[&auth, events], "").await,
        ),
    ]
}

#[tokio::test]
async fn every_stream_of_a_revoked_key_ends_and_those_of_others_go_on() {
    let bridge = Bridge::start(&demo()).await;
    let key = bridge.key_of("ann", "operator").await;
    let mut other = Open::new(&bridge, "GET /v1/events?after=0", &[], "").await;
    let open = one_of_each(&bridge, &key).await;
    let id = key.split('_').nth(1).unwrap();
    let revoked = bridge.send(&format!("DELETE /v1/keys/{id}"), &[], "").await;
    assert_eq!(revoked.status, 204);
    let begun = tokio::time::Instant::now();
    for (what, stream) in open {
        let ended = tokio::time::timeout(PATIENCE, stream.ends()).await;
        assert!(ended.is_ok(), "{what}");
    }
    // A figure for whoever reads the output; no test depends on how fast a machine is.
    println!("streams ended after {:?}", begun.elapsed());
    assert_eq!(
        bridge
            .send("GET /v1/events", &[&auth(&key)], "")
            .await
            .status,
        401
    );
    let call = json!({"ref": "demo.echo", "arguments": {"message": "still here"}});
    assert_eq!(bridge.post("/v1/calls", &call).await.status, 200);
    other.until("still here").await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_its_key_expires() {
    let bridge = Bridge::start(&demo()).await;
    let wish = json!({"user": "admin", "expires_in_s": 6});
    let made = bridge.post("/v1/keys", &wish).await.json();
    let auth = auth(made["key"].as_str().unwrap());
    let stream = Open::new(&bridge, "GET /v1/events", &[&auth], "").await;
    stream.ends().await;
    assert_eq!(bridge.send("GET /v1/me", &[&auth], "").await.status, 401);
    bridge.stop().await;
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_from_streams_calls_and_the_catalogue() {
    let bridge = Bridge::start(&demo()).await;
    let auth = auth(&bridge.key_of("ann", "operator").await);
    let names = async || {
        let page = bridge.send("GET /v1/catalog?kind=tool", &[&auth], "").await;
        page.json()["items"].as_array().map_or(0, Vec::len)
    };
    assert!(names().await > 0);
    let role = async |roles: serde_json::Value| {
        let workspaces = json!([{"workspace": "default", "roles": roles}]);
        let changed = json!({"user": "ann", "workspaces": workspaces});
        assert_eq!(bridge.post("/v1/users", &changed).await.status, 201);
    };
    let stream = Open::new(&bridge, "GET /v1/events", &[&auth], "").await;
    role(json!(["approver"])).await;
    stream.ends().await;
    let call = json!({"ref": "demo.echo", "arguments": {"message": "x"}}).to_string();
    let refused = bridge.send("POST /v1/calls", &[&auth], &call).await;
    assert!(matches!(refused.status, 403 | 404), "{}", refused.text());
    assert_eq!(names().await, 0, "what may not be called is not offered");
    role(json!(["operator"])).await;
    assert_eq!(
        bridge.send("POST /v1/calls", &[&auth], &call).await.status,
        200
    );
    // Out of the workspace altogether.
    let stream = Open::new(&bridge, "GET /v1/events", &[&auth], "").await;
    let nothing = json!({"user": "ann", "workspaces": []});
    assert_eq!(bridge.post("/v1/users", &nothing).await.status, 201);
    stream.ends().await;
    assert_eq!(bridge.send("GET /v1/me", &[&auth], "").await.status, 404);
    bridge.stop().await;
}

#[tokio::test]
async fn a_further_workspace_ends_no_stream() {
    let bridge = Bridge::start(&demo()).await;
    let mut stream = Open::new(&bridge, "GET /v1/events?after=0", &[], "").await;
    let made = bridge
        .post("/v1/workspaces", &json!({"workspace": "team"}))
        .await;
    assert_eq!(made.status, 201);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let call = json!({"ref": "demo.echo", "arguments": {"message": "going on"}});
    assert_eq!(bridge.post("/v1/calls", &call).await.status, 200);
    stream.until("going on").await;
    bridge.stop().await;
}
