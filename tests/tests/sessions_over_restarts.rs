//! A legacy host's session over a crash of the real daemon, with a real server behind it: the host notices nothing.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use serde_json::{Value, json};
use testkit::{Bridge, PATIENCE, upstreams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATH: &str = "/mcp/everything";
const URI: &str = "demo://resource/dynamic/text/1";

/// One request of a session; the answer, and the session it was given.
async fn ask(bridge: &Bridge, session: &str, message: Value) -> (Value, String) {
    let mut headers = vec![("accept", "application/json, text/event-stream")];
    if !session.is_empty() {
        headers.push(("mcp-session-id", session));
    }
    let line = format!("POST {PATH}");
    let reply = bridge.send_with(&line, &headers, Some(message)).await;
    let given = reply.headers.get("mcp-session-id");
    let given = given.map_or("", |value| value.to_str().unwrap()).to_owned();
    let text = reply.text();
    let data = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("data:"));
    let answer = serde_json::from_str(data.unwrap_or(&text)).unwrap_or_default();
    (answer, given)
}

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// Takes the stream of notices up again and reads it until it holds all of these.
async fn listens(bridge: &Bridge, session: &str, wanted: &[&str]) {
    let mut stream = TcpStream::connect(&bridge.authority).await.unwrap();
    let head = format!(
        "GET {PATH} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: text/event-stream\r\n\
         mcp-session-id: {session}\r\nlast-event-id: 1.g.1\r\n\r\n",
        bridge.authority, bridge.admin_key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while !wanted.iter().all(|wanted| text.contains(wanted)) {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    assert!(read.is_ok(), "{wanted:?} not in {text}");
}

#[tokio::test]
async fn a_session_outlives_a_crash_with_its_subscriptions_and_its_log_level() {
    let mut bridge = Bridge::start(vec![upstreams::everything()]).await;
    bridge.wait_for_ref("everything.echo").await;
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"}});
    let (greeting, session) = ask(&bridge, "", request(0, "initialize", &hello)).await;
    assert!(
        greeting["result"]["capabilities"]["resources"]["subscribe"] == true,
        "{greeting}"
    );
    for (id, method, params) in [
        (1, "logging/setLevel", json!({"level": "alert"})),
        (2, "resources/subscribe", json!({"uri": URI})),
    ] {
        let (told, _) = ask(&bridge, &session, request(id, method, &params)).await;
        assert!(told["result"].is_object(), "{told}");
    }
    bridge.crash_and_restart().await;
    let updated = format!(r#""uri":"{URI}""#);
    let wanted = [
        "notifications/tools/list_changed",
        "notifications/resources/updated",
        &updated,
    ];
    listens(&bridge, &session, &wanted).await;
    let echo = json!({"name": "echo", "arguments": {"message": "again"}});
    let (told, _) = ask(&bridge, &session, request(3, "tools/call", &echo)).await;
    assert_eq!(
        told["result"]["content"][0]["text"], "Echo: again",
        "{told}"
    );
}
