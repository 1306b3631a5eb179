//! One tenant's flood and another's calls; a server that fails, left alone for a while. Nothing here depends on speed.

use serde_json::{Value, json};
use testkit::{Bridge, BridgeOptions, Reply, upstreams};

/// Calls of the flood: many times the bucket.
const FLOOD: usize = 60;

async fn bridge(extra: &str) -> Bridge {
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams: vec![upstreams::fixture("modern")],
        extra: extra.to_owned(),
        ..BridgeOptions::default()
    })
    .await;
    bridge.wait_for_ref("modern.echo").await;
    bridge
}

async fn key_of(bridge: &Bridge, user: &str) -> String {
    let body =
        json!({"user": user, "workspaces": [{"workspace": "default", "roles": ["operator"]}]});
    let made = bridge.send("POST", "/v1/users", Some(body)).await;
    assert!(made.status.is_success(), "{}", made.text());
    let key = bridge
        .send("POST", "/v1/keys", Some(json!({ "user": user })))
        .await;
    let key = key.json();
    format!("Bearer {}", key["key"].as_str().unwrap_or_default())
}

async fn echo(bridge: &Bridge, headers: &[(&str, &str)]) -> Reply {
    let body = json!({"ref": "modern.echo", "arguments": {"message": "x"}});
    bridge
        .send_with("POST /v1/calls", headers, Some(body))
        .await
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    let value = reply.headers.get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_flood_is_told_when_to_come_back_and_nobody_else_notices() {
    // A token a minute at most comes back while this runs: too few to matter.
    let extra =
        "limits: {rate: {user: {per_s: 1, burst: 20}, global: {per_s: 1000, burst: 2000}}}\n";
    let bridge = bridge(extra).await;
    let (ann, bob) = (key_of(&bridge, "ann").await, key_of(&bridge, "bob").await);
    let ann = [("authorization", ann.as_str())];
    let bob = [("authorization", bob.as_str())];
    let flood = (0..FLOOD).map(|_| echo(&bridge, &ann));
    let calm = async {
        let mut replies = Vec::new();
        for _ in 0..10 {
            replies.push(echo(&bridge, &bob).await);
        }
        replies
    };
    let (flood, calm) = tokio::join!(futures_util::future::join_all(flood), calm);
    for reply in &calm {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(
        header(&calm[0], "ratelimit-policy"),
        r#""user";q=20;w=20, "workspace";q=1500;w=2"#
    );
    assert!(header(&calm[9], "ratelimit").starts_with(r#""user";r="#));
    let refused: Vec<&Reply> = flood.iter().filter(|reply| reply.status == 429).collect();
    let passed = flood.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(refused.len() + passed, FLOOD);
    assert!(passed >= 20 && !refused.is_empty(), "{passed}");
    for reply in &refused {
        let body = reply.json();
        assert_eq!(
            (&body["code"], &body["executed"], &body["retryable"]),
            (&json!("rate_limited"), &json!("no"), &json!(true))
        );
        let wait: u64 = header(reply, "retry-after").parse().unwrap_or(0);
        assert!(wait >= 1, "{:?}", reply.headers);
        assert!(header(reply, "ratelimit").starts_with(r#""user";r=0;t="#));
    }
}

#[tokio::test]
async fn a_refused_call_does_not_use_its_key_and_mcp_says_when_to_come_back() {
    let extra = "limits: {rate: {user: {per_s: 1, burst: 1}}}\n";
    let bridge = bridge(extra).await;
    let ann = key_of(&bridge, "ann").await;
    let keyed = [("authorization", ann.as_str()), ("idempotency-key", "k1")];
    let keyed_echo = || async {
        let body = json!({"ref": "modern.echo", "arguments": {"message": "k"}});
        bridge.send_with("POST /v1/calls", &keyed, Some(body)).await
    };
    // Whoever asks at once finds the bucket empty sooner or later; then the same key goes through.
    let mut refused = None;
    while refused.is_none() {
        let reply = echo(&bridge, &[("authorization", &ann)]).await;
        refused = (reply.status == 429).then_some(reply);
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "echo", "arguments": {"message": "x"},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }});
    let headers = [
        ("authorization", ann.as_str()),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "echo"),
    ];
    let told: Value = loop {
        let reply = bridge
            .send_with("POST /mcp/modern", &headers, Some(message.clone()))
            .await;
        let text = reply.text();
        let body = text
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .unwrap_or(&text);
        let body: Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
        if body["error"]["data"]["code"] == "rate_limited" {
            break body;
        }
        assert!(body["result"].is_object(), "{body}");
    };
    assert!(
        told["error"]["data"]["retry_after_ms"].as_u64().is_some(),
        "{told}"
    );
    let mut replies = vec![keyed_echo().await];
    while replies.last().is_some_and(|reply| reply.status == 429) {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        replies.push(keyed_echo().await);
    }
    let done = replies.pop().map(|reply| reply.json()).unwrap_or_default();
    assert_eq!(done["replayed"], false, "{done}");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_server_that_fails_is_left_alone_and_shows_it() {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let (tools, effects) = (folder.path().join("tools"), folder.path().join("effects"));
    let read_only = json!({"readOnlyHint": true});
    let listed = json!([
        {"name": "hang", "inputSchema": {"type": "object"}, "annotations": read_only},
        {"name": "good", "inputSchema": {"type": "object"}, "annotations": read_only},
    ]);
    std::fs::write(&tools, listed.to_string()).unwrap_or_else(|error| panic!("{error}"));
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams: vec![
            upstreams::told("bad", &tools, &effects),
            upstreams::fixture("modern"),
        ],
        extra: "breaker: {failures: 2, window_s: 60, open_s: 2}\n".to_owned(),
        ..BridgeOptions::default()
    })
    .await;
    bridge.wait_for_ref("bad.hang").await;
    let call = async |reference: &str| {
        let body = json!({"ref": reference, "arguments": {}, "timeout_ms": 1000});
        bridge.send("POST", "/v1/calls", Some(body)).await
    };
    for _ in 0..2 {
        assert_eq!(call("bad.hang").await.status, 504);
    }
    let refused = call("bad.good").await;
    assert_eq!(refused.json()["code"], "circuit_open", "{}", refused.text());
    assert_eq!(refused.status, 503);
    assert!(header(&refused, "retry-after").parse::<u64>().is_ok());
    let shown = bridge.get("/v1/servers/bad").await;
    assert_eq!(shown["circuit"]["state"], "open");
    assert_eq!(echo(&bridge, &[]).await.status, 200);
    let session = session_of(&bridge, "bad").await;
    assert_eq!(session["circuit"]["state"], "open", "{session}");
    assert!(session["circuit"]["retry_after_ms"].is_u64(), "{session}");
    let well = session_of(&bridge, "modern").await;
    assert_eq!(well["circuit"], json!({"state": "closed"}));
    assert_eq!(std::fs::read_to_string(&effects).unwrap_or_default(), "");
    // One call tries after the pause, and its answer closes the circuit.
    testkit::eventually("the circuit closes", || async {
        (call("bad.good").await.status == 200).then_some(())
    })
    .await;
    let shown = bridge.get("/v1/servers/bad").await;
    assert_eq!(shown["circuit"]["state"], "closed");
    let session = session_of(&bridge, "bad").await;
    assert_eq!(session["circuit"], json!({"state": "closed"}));
    // Both changes were told, in their order, to whoever listens.
    let told = bridge
        .get("/v1/events/history?limit=500&types=circuit_opened,circuit_closed")
        .await;
    let told = told["items"].as_array().cloned().unwrap_or_default();
    let kinds: Vec<&str> = told
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    let (first, last) = (kinds.first(), kinds.last());
    assert_eq!(
        (first, last),
        (Some(&"circuit_opened"), Some(&"circuit_closed")),
        "{told:?}"
    );
    assert!(
        told.iter().all(|event| event["data"]["server"] == "bad"),
        "{told:?}"
    );
    assert!(told[0]["data"]["retry_after_ms"].is_u64(), "{told:?}");
}

/// A session of a server, as its owner inspects it.
async fn session_of(bridge: &Bridge, server: &str) -> Value {
    let page = bridge.get("/v1/sessions").await;
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let found = items.iter().find(|one| one["server"] == server);
    let id = found
        .and_then(|one| one["session_id"].as_str())
        .unwrap_or_else(|| panic!("no session of {server}: {page}"));
    bridge.get(&format!("/v1/sessions/{id}")).await
}
