//! What one tenant does to the threads that all share: a bomb of a schema and its argument, through the real daemon
//! with one worker thread.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::upstreams::told;
use testkit::{Bridge, BridgeOptions, Reply};
use tokio::task::JoinSet;

/// Bombs at once; the daemon has fewer threads that answer.
const BOMBS: usize = 4;
/// Bytes of a text that a slow pattern goes through; as much work as is not refused before it is begun.
const TEXT_BYTES: usize = 150_000;

/// A tool whose schema holds a text against patterns that are as slow as the bounds of schemas allow.
fn bomb() -> Value {
    let patterns: Vec<Value> = (0..200)
        .map(|n| json!({"pattern": format!("(a|b)*x.{{200}}y{n}")}))
        .collect();
    let schema = json!({"type": "object", "properties": {"s": {"anyOf": patterns}}});
    json!({"name": "bomb", "inputSchema": schema, "annotations": {"readOnlyHint": true}})
}

fn argument() -> Value {
    json!({"s": "ab3_".repeat(TEXT_BYTES / 4)})
}

/// A key of a new user in a workspace.
async fn key(bridge: &Bridge, user: &str, workspace: &str) -> String {
    let wish =
        json!({"user": user, "workspaces": [{"workspace": workspace, "roles": ["operator"]}]});
    let made = bridge.send("POST", "/v1/users", Some(wish)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = bridge.send("POST", "/v1/keys", Some(json!({"user": user})));
    let key = made.await.json()["key"].as_str().unwrap().to_owned();
    format!("Bearer {key}")
}

async fn call(bridge: &Bridge, bearer: &str, (tool, arguments): (&str, Value)) -> Reply {
    let headers = [("authorization", bearer)];
    let body = json!({"ref": tool, "arguments": arguments});
    bridge
        .send_with("POST /v1/calls", &headers, Some(body))
        .await
}

#[tokio::test]
async fn a_bomb_of_one_tenant_keeps_no_thread_from_answering_another() {
    let folder = tempfile::tempdir().unwrap();
    let (bombs, tools) = (folder.path().join("bombs"), folder.path().join("tools"));
    let effects = folder.path().join("effects");
    std::fs::write(&bombs, json!([bomb()]).to_string()).unwrap();
    // Each of them has to be compiled when it is first called.
    let plain: Vec<Value> = (0..BOMBS * 8)
        .map(|n| {
            let schema = json!({"type": "object", "properties": {format!("p{n}"): {"type": "string"}}});
            json!({"name": format!("plain{n}"), "inputSchema": schema, "annotations": {"readOnlyHint": true}})
        })
        .collect();
    std::fs::write(&tools, json!(plain).to_string()).unwrap();
    let mut theirs = told("theirs", &tools, &effects);
    theirs.yaml.push_str("    workspace: second\n");
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams: vec![told("bombs", &bombs, &effects), theirs],
        env: vec![("TOKIO_WORKER_THREADS", "1".to_owned())],
        ..BridgeOptions::default()
    })
    .await;
    let ann = key(&bridge, "ann", "default").await;
    let eve = key(&bridge, "eve", "second").await;
    bridge.wait_for_ref("bombs.bomb").await;
    testkit::eventually("the other workspace's tools", || async {
        let headers = [("authorization", eve.as_str())];
        let page = bridge.send_with("GET /v1/catalog?limit=500", &headers, None);
        page.await.text().contains("theirs.plain0").then_some(())
    })
    .await;
    let bridge = Arc::new(bridge);
    let mut flying = JoinSet::new();
    for _ in 0..BOMBS {
        let (bridge, ann) = (Arc::clone(&bridge), ann.clone());
        flying.spawn(async move { call(&bridge, &ann, ("bombs.bomb", argument())).await });
    }
    // She is answered again and again while they are in flight: not only in the pauses between two of them.
    let (mut answered, mut ended) = (0, Vec::new());
    while !flying.is_empty() {
        let tool = format!("theirs.plain{}", answered % plain.len());
        let reply = call(&bridge, &eve, (&tool, json!({}))).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        answered += 1;
        while let Some(one) = flying.try_join_next() {
            ended.push(one.unwrap());
        }
    }
    assert!(answered > BOMBS * 4, "{answered} answers meanwhile");
    for reply in ended {
        // None of them was refused before its work began, and none had an effect.
        let code = reply.json()["code"].clone();
        assert!(
            code == "invalid_arguments" || code == "overloaded",
            "{}",
            reply.text()
        );
    }
    let effects = std::fs::read_to_string(&effects).unwrap();
    assert!(!effects.contains("bomb"), "{effects}");
}
