//! `/mcp/{server}`: every era reaches every era, and nothing is lost on the way.

use serde_json::{Value, json};

use crate::client::{Legacy, Modern, servers, text};
use crate::kit::Bridge;
use crate::upstream::{Era, Upstream};

async fn bridge(era: Era) -> (Upstream, Bridge) {
    let upstream = Upstream::start(era).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    (upstream, bridge)
}

#[tokio::test]
async fn a_legacy_client_is_greeted_as_by_the_server_itself() {
    for era in [Era::Legacy, Era::Modern] {
        let (_upstream, bridge) = bridge(era).await;
        let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        let greeting = &client.greeting["result"];
        assert_eq!(greeting["protocolVersion"], "2025-11-25");
        assert_eq!(
            greeting["serverInfo"],
            json!({"name": "fake", "version": "7", "x": 1.0})
        );
        assert_eq!(greeting["instructions"], "Be kind.");
        assert_eq!(
            greeting["capabilities"]["tools"],
            json!({"listChanged": true})
        );
        assert_eq!(greeting["capabilities"]["x-unknown"], json!({"a": 1.0}));
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_modern_client_discovers_either_server() {
    for era in [Era::Legacy, Era::Modern] {
        let (_upstream, bridge) = bridge(era).await;
        let client = Modern::new(&bridge, "/mcp/fake", json!({}));
        let told = client.answer(1, "server/discover", json!({})).await;
        let result = &told["result"];
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["supportedVersions"][0], "2026-07-28");
        assert_eq!(result["cacheScope"], "private");
        let info = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
        assert_eq!(info["name"], "fake");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn lists_and_results_keep_what_nobody_here_knows_between_any_two_eras() {
    for era in [Era::Legacy, Era::Modern] {
        let (upstream, bridge) = bridge(era).await;
        let modern = Modern::new(&bridge, "/mcp/fake", json!({}));
        let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        let call = json!({"name": "echo", "arguments": {"message": "hi"}});
        for (modern_client, list, done) in [
            (
                true,
                modern.answer(1, "tools/list", json!({})).await,
                modern.answer(2, "tools/call", call.clone()).await,
            ),
            (
                false,
                legacy.answer(1, "tools/list", json!({})).await,
                legacy.answer(2, "tools/call", call.clone()).await,
            ),
        ] {
            let echo = &list["result"]["tools"].as_array().unwrap();
            let echo = echo.iter().find(|tool| tool["name"] == "echo").unwrap();
            assert_eq!(echo["x-unknown"], json!({"kept": 1.50}), "{list}");
            assert_eq!(list["result"].get("ttlMs").is_some(), modern_client);
            assert_eq!(text(&done), "hi");
            let result = &done["result"];
            assert_eq!(
                result["content"][1],
                json!({"type": "x-unknown", "weight": 1.50})
            );
            assert_eq!(result["unknown"], json!({"kept": 2.0}));
            let complete = result.get("resultType").is_some();
            assert_eq!(complete, modern_client || era == Era::Modern, "{result}");
        }
        assert_eq!(upstream.count("tools/call"), 2);
        let handshakes = upstream.count("initialize") + upstream.count("server/discover");
        assert_eq!(handshakes, 1, "one session serves them all");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn resources_prompts_and_completion_pass_through() {
    for era in [Era::Legacy, Era::Modern] {
        let (upstream, bridge) = bridge(era).await;
        let modern = Modern::new(&bridge, "/mcp/fake", json!({}));
        let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        let read = modern
            .answer(1, "resources/read", json!({"uri": "a://b"}))
            .await;
        assert_eq!(read["result"]["contents"][0]["x"], 1.0, "{read}");
        assert_eq!(read["result"]["cacheScope"], "private");
        let read = legacy
            .answer(1, "resources/read", json!({"uri": "a://b"}))
            .await;
        assert_eq!(read["result"]["contents"][0]["text"], "hello", "{read}");
        let got = legacy
            .answer(2, "prompts/get", json!({"name": "greet"}))
            .await;
        assert_eq!(got["result"]["messages"][0]["role"], "user", "{got}");
        let completed = json!({"ref": {"type": "ref/prompt", "name": "greet"},
            "argument": {"name": "a", "value": "b"}, "context": {"arguments": {}}});
        let told = modern
            .answer(3, "completion/complete", completed.clone())
            .await;
        assert_eq!(
            told["result"]["completion"],
            json!({"values": ["x"], "y": 1.0}),
            "{told}"
        );
        let mut sent = upstream.last("completion/complete").unwrap();
        sent.as_object_mut().unwrap().remove("_meta");
        assert_eq!(sent, completed);
        for list in ["resources/list", "resources/templates/list", "prompts/list"] {
            let told = legacy.answer(4, list, json!({})).await;
            assert!(told["result"].is_object(), "{told}");
        }
        bridge.stop().await;
    }
}

#[tokio::test]
async fn progress_comes_under_the_clients_own_token_and_before_the_answer() {
    for era in [Era::Legacy, Era::Modern] {
        let (_upstream, bridge) = bridge(era).await;
        let modern = Modern::new(&bridge, "/mcp/fake", json!({}));
        let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        let call = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": "mine"}});
        let mut streams = [
            (true, modern.ask(1, "tools/call", call.clone()).await),
            (false, legacy.ask(1, "tools/call", call.clone()).await),
        ];
        for (modern_client, stream) in &mut streams {
            assert!(stream.is_stream());
            let mut messages = Vec::new();
            while let Some(message) = stream.message().await {
                messages.push(message);
            }
            let steps: Vec<&Value> = messages
                .iter()
                .filter(|message| message["method"] == "notifications/progress")
                .map(|message| &message["params"])
                .collect();
            assert_eq!(steps.len(), 3, "{messages:?}");
            for (at, step) in steps.iter().enumerate() {
                let expected = json!({"progressToken": "mine", "progress": at + 1, "x": 1.0});
                assert_eq!(**step, expected);
            }
            let logs = messages
                .iter()
                .filter(|m| m["method"] == "notifications/message");
            // A modern client that named no level gets no log.
            assert_eq!(logs.count(), usize::from(!*modern_client), "{messages:?}");
            assert_eq!(text(messages.last().unwrap()), "done");
        }
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_modern_client_gets_logs_of_the_level_it_names() {
    let (_upstream, bridge) = bridge(Era::Modern).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({}));
    for (level, logs) in [("debug", 1), ("error", 0)] {
        let call = json!({"name": "progress", "arguments": {},
            "_meta": {"io.modelcontextprotocol/logLevel": level}});
        let mut stream = client.ask(1, "tools/call", call).await;
        let mut count = 0;
        let mut last = Value::Null;
        if stream.is_stream() {
            while let Some(message) = stream.message().await {
                count += usize::from(message["method"] == "notifications/message");
                last = message;
            }
        } else {
            last = stream.json().await;
        }
        assert_eq!(text(&last), "done");
        assert_eq!(count, logs, "{level}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_servers_own_errors_pass_unchanged_and_in_the_words_of_the_clients_era() {
    for era in [Era::Legacy, Era::Modern] {
        let (_upstream, bridge) = bridge(era).await;
        let modern = Modern::new(&bridge, "/mcp/fake", json!({}));
        let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        let call = json!({"name": "fail", "arguments": {}});
        for told in [
            modern.answer(1, "tools/call", call.clone()).await,
            legacy.answer(1, "tools/call", call.clone()).await,
        ] {
            let expected = json!({"code": -32050, "message": "no", "data": {"why": 1.0}});
            assert_eq!(told["error"], expected);
        }
        let missing = json!({"uri": "a://c"});
        let told = legacy.answer(2, "resources/read", missing.clone()).await;
        assert_eq!(told["error"]["code"], -32002);
        let told = modern.answer(2, "resources/read", missing).await;
        assert_eq!(told["error"]["code"], -32602, "{told}");
        assert_eq!(told["error"]["data"], json!({"uri": "a://c"}));
        bridge.stop().await;
    }
}

#[tokio::test]
async fn wrong_arguments_come_back_as_a_result_a_model_can_repair() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let call = json!({"name": "add", "arguments": {"a": "x"}});
    let told = client.answer(1, "tools/call", call).await;
    assert_eq!(told["result"]["isError"], true, "{told}");
    assert!(text(&told).contains("fake.add(a: number)"), "{told}");
    assert!(text(&told).ends_with("executed: no"), "{told}");
    assert_eq!(
        told["result"]["_meta"]["paperbot/fault"]["code"],
        "invalid_arguments"
    );
    let told = client
        .answer(2, "tools/call", json!({"name": "nope"}))
        .await;
    assert_eq!(told["error"]["code"], -32602, "{told}");
    assert_eq!(told["error"]["data"]["code"], "tool_not_found");
    assert_eq!(upstream.count("tools/call"), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn a_trace_in_the_message_is_joined_and_other_metadata_is_sent_on() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({}));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let call = json!({"name": "echo", "arguments": {}, "x-extra": [1.0], "_meta": {
        "traceparent": format!("00-{trace}-b7ad6b7169203331-01"), "a.b/c": {"d": 1.0},
        "protocolVersion": "1", "logLevel": "x"}});
    let told = client.answer(1, "tools/call", call).await;
    assert_eq!(text(&told), "-", "{told}");
    let sent = upstream.last("tools/call").unwrap();
    assert_eq!(sent["_meta"]["protocolVersion"], "1", "the client's own");
    assert_eq!(sent["_meta"]["logLevel"], "x", "the client's own");
    assert_eq!(sent["_meta"]["a.b/c"], json!({"d": 1.0}));
    assert!(
        sent["_meta"]["traceparent"]
            .as_str()
            .unwrap()
            .contains(trace),
        "{sent}"
    );
    assert_eq!(sent["x-extra"], json!([1.0]));
    let meta = sent["_meta"].as_object().unwrap();
    assert!(
        meta.keys()
            .all(|key| !key.starts_with("io.modelcontextprotocol/")),
        "{sent}"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_stream_gets_the_answer_alone() {
    let (_upstream, bridge) = bridge(Era::Legacy).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({"elicitation": {}})).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "progress", "_meta": {"progressToken": 1}}});
    let accept = [("accept", "application/json")];
    let mut told = client.with(&accept, &body.to_string()).await;
    assert!(!told.is_stream());
    assert_eq!(text(&told.json().await), "done");
    let body = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    let mut told = client
        .with(&[("accept", "text/event-stream")], &body.to_string())
        .await;
    assert!(told.status == 200);
    assert!(told.answer().await["result"]["tools"].is_array());
    bridge.stop().await;
}

#[tokio::test]
async fn what_is_cancelled_here_is_cancelled_there() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let slow = json!({"name": "slow", "arguments": {}});
    let asking = legacy.ask(7, "tools/call", slow.clone());
    let cancelling = async {
        crate::kit::eventually("the call arrives", || async {
            (upstream.count("tools/call") == 1).then_some(())
        })
        .await;
        let body =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
        assert_eq!(legacy.raw(body).await.status, 202);
    };
    let (mut told, ()) = tokio::join!(asking, cancelling);
    assert_eq!(told.answer().await["error"]["data"]["code"], "cancelled");
    crate::kit::eventually("it is cancelled upstream", || async {
        (upstream.cancelled() == 1).then_some(())
    })
    .await;

    let modern = Modern::new(&bridge, "/mcp/fake", json!({}));
    let abandoned = tokio::time::timeout(
        std::time::Duration::from_millis(500),
        modern.ask(8, "tools/call", slow),
    );
    assert!(abandoned.await.is_err(), "it is slow");
    crate::kit::eventually("losing the connection cancels it", || async {
        (upstream.cancelled() == 2).then_some(())
    })
    .await;
    bridge.stop().await;
}
