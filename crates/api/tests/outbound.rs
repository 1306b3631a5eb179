//! Where servers may lead, which commands and variables they may name, and who may say so: attacks on the real
//! daemon, and a sentinel that must not be reached.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod kit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kit::{Bridge, Reply};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What a sentinel would say; it must stand in no answer.
const CANARY: &str = "CANARY_OF_THE_SENTINEL";

/// A listener that counts who comes, and answers every request the same.
struct Listener {
    address: SocketAddr,
    hits: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    async fn on(place: &str, answer: String) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let address = listener.local_addr().unwrap();
        let hits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&hits);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut bytes = [0; 4096];
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self {
            address,
            hits,
            task,
        }
    }

    async fn sentinel(place: &str) -> Self {
        let body = format!("{{\"secret\":\"{CANARY}\"}}");
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Self::on(place, answer).await
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sent(bridge: &Bridge, key: &str, line: &str, body: &Value) -> Reply {
    let authorization = format!("authorization: Bearer {key}");
    let body = body.to_string();
    let reply = bridge.send(line, &[&authorization], &body).await;
    assert!(!reply.text().contains(CANARY), "{line}: {}", reply.text());
    reply
}

/// Tries a URL by every way an operator has; what is created is tested, found in, called, and removed.
async fn try_everywhere(bridge: &Bridge, key: &str, transport: &str, url: &str) {
    let definition = json!({"transport": transport, "url": url});
    let body = json!({"definition": definition});
    let tested = sent(bridge, key, "POST /v1/servers/probe/test", &body).await;
    if tested.status == 200 {
        assert_eq!(tested.json()["ok"], false, "{url}: {}", tested.text());
    } else {
        assert_eq!(tested.status, 422, "{url}: {}", tested.text());
    }
    let create = json!({"name": "probe", "definition": definition});
    let created = sent(bridge, key, "POST /v1/servers", &create).await;
    if created.status != 201 {
        assert_eq!(created.status, 422, "{url}: {}", created.text());
        return;
    }
    let tested = sent(bridge, key, "POST /v1/servers/probe/test", &json!({})).await;
    assert_eq!(tested.json()["ok"], false, "{url}");
    let call = json!({"ref": "probe.get", "arguments": {}});
    let called = sent(bridge, key, "POST /v1/calls", &call).await;
    assert!(called.status >= 400, "{url}: {}", called.text());
    let opened = sent(
        bridge,
        key,
        "POST /v1/sessions",
        &json!({"server": "probe"}),
    )
    .await;
    assert!(opened.status >= 400, "{url}: {}", opened.text());
    let authorization = format!("authorization: Bearer {key}");
    let headers = [authorization.as_str(), "if-match: *"];
    let removed = bridge.send("DELETE /v1/servers/probe", &headers, "").await;
    assert_eq!(removed.status, 204);
}

#[tokio::test]
async fn no_spelling_of_a_closed_address_is_ever_connected_to() {
    let bridge = Bridge::start("").await;
    let operator = bridge.key_of("oper", "operator").await;
    let sentinel = Listener::sentinel("127.0.0.1:0").await;
    let port = sentinel.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "[::1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "①②⑦.⓪.⓪.①",
        "169.254.169.254",
        "[64:ff9b::7f00:1]",
        "user@127.0.0.1",
        "example.com@127.0.0.1",
        "example.com:80@127.0.0.1",
        "127.0.0.1\\@example.com",
    ] {
        let url = format!("http://{host}:{port}/mcp");
        try_everywhere(&bridge, &operator, "streamable_http", &url).await;
        try_everywhere(&bridge, &operator, "sse", &url).await;
    }
    for url in [
        format!("gopher://127.0.0.1:{port}/_x"),
        "file:///etc/passwd".to_owned(),
        format!("ftp://127.0.0.1:{port}/"),
        format!("unix:///tmp/x:{port}"),
        format!("//127.0.0.1:{port}/"),
    ] {
        try_everywhere(&bridge, &operator, "streamable_http", &url).await;
    }
    assert_eq!(sentinel.hits(), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn no_redirect_and_no_endpoint_of_a_server_leads_elsewhere() {
    // What is open is one address; the sentinels stand on it too, and on one that is closed.
    let bridge = Bridge::start("outbound: {allow_private: [127.0.0.1]}\n").await;
    let operator = bridge.key_of("oper", "operator").await;
    let near = Listener::sentinel("127.0.0.1:0").await;
    let far = Listener::sentinel("127.0.0.2:0").await;
    for sentinel in [&near, &far] {
        let to = format!("http://{}/latest", sentinel.address);
        for status in ["301", "302", "303", "307", "308"] {
            let answer = format!(
                "HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\ncontent-length: {}\r\n\r\n{CANARY}",
                CANARY.len()
            );
            let liar = Listener::on("127.0.0.1:0", answer).await;
            let url = format!("http://{}/mcp", liar.address);
            try_everywhere(&bridge, &operator, "streamable_http", &url).await;
            try_everywhere(&bridge, &operator, "sse", &url).await;
            assert!(liar.hits() > 0, "it was asked");
        }
        let stream = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: endpoint\ndata: {to}\n\n"
        );
        let liar = Listener::on("127.0.0.1:0", stream).await;
        let url = format!("http://{}/sse", liar.address);
        try_everywhere(&bridge, &operator, "sse", &url).await;
        assert!(liar.hits() > 0, "it was asked");
    }
    assert_eq!((near.hits(), far.hits()), (0, 0));
    bridge.stop().await;
}

#[tokio::test]
async fn an_error_does_not_repeat_what_a_server_said() {
    let bridge = Bridge::start("outbound: {allow_private: [127.0.0.1]}\n").await;
    let operator = bridge.key_of("oper", "operator").await;
    for status in ["200 OK", "404 Not Found", "500 Oops", "403 No"] {
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{CANARY}",
            CANARY.len()
        );
        let server = Listener::on("127.0.0.1:0", answer).await;
        let url = format!("http://{}/mcp", server.address);
        try_everywhere(&bridge, &operator, "streamable_http", &url).await;
        assert!(server.hits() > 0);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn only_admins_name_commands_on_every_path() {
    let bridge = Bridge::start("").await;
    let operator = bridge.key_of("oper", "operator").await;
    let viewer = bridge.key_of("view", "viewer").await;
    let mark = bridge.home.path().join("canary");
    let touch = format!("touch {}", mark.display());
    let own = json!({"transport": "stdio", "command": ["/bin/true"]});
    let made = bridge
        .post("/v1/servers", &json!({"name": "own", "definition": own}))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    for key in [&operator, &viewer] {
        for command in [
            json!(["/bin/sh", "-c", touch]),
            json!(["sh", "-c", touch]),
            json!(["./tool"]),
            json!(["npx", "-y", "x"]),
            json!(["--version", "--", touch]),
            json!([format!("true; {touch}")]),
            json!([format!("`{touch}`")]),
            json!(["true\n", touch]),
        ] {
            let definition = json!({"transport": "stdio", "command": command});
            let body = json!({"definition": definition});
            for (line, body) in [
                (
                    "POST /v1/servers",
                    json!({"name": "bad", "definition": definition}),
                ),
                ("PUT /v1/servers/bad", body.clone()),
                ("PUT /v1/servers/own", body.clone()),
                ("POST /v1/servers/bad/test", body.clone()),
                ("POST /v1/servers/own/test", body.clone()),
                ("POST /v1/servers/own/test", json!({})),
                ("POST /v1/servers/own/rollback", json!({"version": 1})),
            ] {
                let authorization = format!("authorization: Bearer {key}");
                let headers = [authorization.as_str(), "if-match: *"];
                let reply = bridge.send(line, &headers, &body.to_string()).await;
                assert_eq!(reply.status, 403, "{line}: {}", reply.text());
            }
        }
    }
    assert!(!mark.exists());
    bridge.stop().await;
}

#[tokio::test]
async fn loader_variables_and_smuggled_headers_are_refused_with_their_place() {
    let bridge = Bridge::start("").await;
    for name in [
        "LD_PRELOAD",
        "ld_library_path",
        "DYLD_INSERT_LIBRARIES",
        "PATH",
        "NODE_OPTIONS",
        "PYTHONSTARTUP",
        "PERL5LIB",
        "RUBYOPT",
        "BASH_ENV",
        "ENV",
        "IFS",
        "HTTPS_PROXY",
        "all_proxy",
        "A=B",
        "A\0B",
        "",
    ] {
        let definition = json!({"transport": "stdio", "command": ["true"], "env": {name: "x"}});
        refused(&bridge, &definition, &format!("/definition/env/{name}")).await;
    }
    let nul = json!({"transport": "stdio", "command": ["true"], "env": {"A": "x\0y"}});
    refused(&bridge, &nul, "/definition/env/A").await;
    for (name, value) in [
        ("X-A", "a\r\nX-Evil: 1"),
        ("X-A", "a\nb"),
        ("X-A", "a\0b"),
        ("X\r\nEvil", "1"),
        ("Host", "evil.example"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Mcp-Session-Id", "1"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Param-x", "1"),
        ("Proxy-Authorization", "x"),
        ("Cookie", "a=b"),
        ("Authorization", "Bearer x"),
    ] {
        let definition = json!({"transport": "streamable_http", "url": "https://mcp.example/mcp",
            "headers": {name: value}});
        refused(&bridge, &definition, &format!("/definition/headers/{name}")).await;
    }
    bridge.stop().await;
}

async fn refused(bridge: &Bridge, definition: &Value, place: &str) {
    for (line, body) in [
        (
            "POST /v1/servers",
            json!({"name": "bad", "definition": definition}),
        ),
        (
            "POST /v1/servers/bad/test",
            json!({"definition": definition}),
        ),
    ] {
        let reply = bridge.send(line, &[], &body.to_string()).await;
        assert_eq!(reply.status, 422, "{place}: {}", reply.text());
        let errors = reply.json()["errors"].clone();
        let first = errors.as_array().and_then(|errors| errors.first()).cloned();
        let pointer = first.unwrap()["pointer"].as_str().unwrap().to_owned();
        assert_eq!(pointer, place);
    }
}

#[tokio::test]
async fn launch_metadata_nobody_asked_for_is_refused() {
    let bridge = Bridge::start("").await;
    for (key, value) in [
        ("uid", json!(0)),
        ("mounts", json!(["/:/host"])),
        ("sandbox", json!(false)),
        ("privileged", json!(true)),
        ("args", json!(["-c", "id"])),
    ] {
        let mut definition = json!({"transport": "stdio", "command": ["true"]});
        definition[key] = value;
        let body = json!({"name": "bad", "definition": definition});
        let reply = bridge.post("/v1/servers", &body).await;
        assert_eq!(reply.status, 400, "{key}: {}", reply.text());
    }
    bridge.stop().await;
}
