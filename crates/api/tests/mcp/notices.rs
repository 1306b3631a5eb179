//! What changes is told: by `subscriptions/listen`, by the GET stream, and never to whoever did not ask.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Exchange, Legacy, Modern, servers, text};
use crate::kit::{Bridge, PATIENCE};
use crate::upstream::{Era, Upstream};

const ID: &str = "io.modelcontextprotocol/subscriptionId";

async fn bridge(era: Era) -> (Upstream, Bridge) {
    let upstream = Upstream::start(era).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    (upstream, bridge)
}

/// Nothing more comes within a moment.
async fn quiet(stream: &mut Exchange) -> bool {
    tokio::time::timeout(Duration::from_millis(1500), stream.message())
        .await
        .is_err()
}

#[tokio::test]
async fn a_modern_client_hears_what_it_subscribed_to_and_nothing_else() {
    for era in [Era::Legacy, Era::Modern] {
        let (upstream, bridge) = bridge(era).await;
        let client = Modern::new(&bridge, "/mcp/fake", json!({}));
        client.answer(0, "tools/list", json!({})).await;
        let filter = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true,
            "resourceSubscriptions": ["a://b"], "unknown": true}});
        let mut stream = client.ask(7, "subscriptions/listen", filter).await;
        assert!(stream.is_stream());
        let first = stream.message().await.unwrap();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        // The server's prompts do not change, so that is not promised.
        let agreed = json!({"toolsListChanged": true, "resourceSubscriptions": ["a://b"]});
        assert_eq!(first["params"]["notifications"], agreed);
        assert_eq!(first["params"]["_meta"][ID], 7);
        upstream.add_tool("fresh");
        let told = stream.message().await.unwrap();
        assert_eq!(
            told["method"], "notifications/tools/list_changed",
            "{era:?} {told}"
        );
        assert_eq!(told["params"]["_meta"][ID], 7);
        let list = client.answer(8, "tools/list", json!({})).await;
        assert!(
            list.to_string().contains("fresh"),
            "the new list is there when it is told"
        );
        for uri in ["a://other", "a://b"] {
            upstream.say(json!({"method": "notifications/resources/updated", "params": {"uri": uri, "x": 1.0}}));
        }
        let told = stream.message().await.unwrap();
        assert_eq!(told["method"], "notifications/resources/updated", "{told}");
        assert_eq!(told["params"]["uri"], "a://b");
        assert_eq!(told["params"]["x"], 1.0);
        assert_eq!(told["params"]["_meta"][ID], 7);
        upstream.say(
            json!({"method": "notifications/message", "params": {"level": "error", "data": 1}}),
        );
        assert!(quiet(&mut stream).await, "logs belong to requests");
        drop(stream);
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_subscription_ends_politely_with_the_bridge() {
    let (_upstream, bridge) = bridge(Era::Legacy).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({}));
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = client.ask(7, "subscriptions/listen", filter).await;
    stream.message().await.unwrap();
    let (last, ()) = tokio::join!(
        async {
            let last = stream.message().await.unwrap();
            assert!(stream.message().await.is_none());
            last
        },
        bridge.stop()
    );
    assert_eq!(last["id"], 7);
    assert_eq!(last["result"]["resultType"], "complete");
    assert_eq!(last["result"]["_meta"][ID], 7);
}

#[tokio::test]
async fn a_legacy_client_hears_on_its_get_stream() {
    for era in [Era::Legacy, Era::Modern] {
        let (upstream, bridge) = bridge(era).await;
        let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        client.answer(0, "tools/list", json!({})).await;
        let uri = json!({"uri": "a://b"});
        let told = client.answer(1, "resources/subscribe", uri.clone()).await;
        assert_eq!(told["result"], json!({}), "{told}");
        let mut stream = client.get(&[]).await;
        assert!(stream.is_stream());
        let told = updated(&upstream, &mut stream).await;
        assert_eq!(told["params"]["uri"], "a://b", "{era:?}: not of another");
        upstream.add_tool("fresh");
        let told = until(&mut stream, "notifications/tools/list_changed").await;
        assert!(told.get("params").is_none(), "{told}");
        let level = json!({"level": "warning"});
        assert_eq!(
            client.answer(2, "logging/setLevel", level).await["result"],
            json!({})
        );
        for level in ["info", "error"] {
            upstream.say(
                json!({"method": "notifications/message", "params": {"level": level, "data": 1}}),
            );
        }
        if era == Era::Legacy {
            let told = until(&mut stream, "notifications/message").await;
            assert_eq!(
                told["params"]["level"], "error",
                "what is below the level is not told"
            );
        }
        let told = client.answer(3, "resources/unsubscribe", uri).await;
        assert_eq!(told["result"], json!({}));
        let late = json!({"uri": "a://b", "late": true});
        upstream.say(json!({"method": "notifications/resources/updated", "params": late}));
        upstream.add_tool("fence");
        loop {
            let told = stream.message().await.unwrap();
            assert!(told["params"]["late"].is_null(), "{era:?}: {told}");
            if told["method"] == "notifications/tools/list_changed" {
                break;
            }
        }
        drop(stream);
        bridge.stop().await;
    }
}

/// The first update told on a stream, of a resource that changes until it is heard, as another does.
async fn updated(upstream: &Upstream, stream: &mut Exchange) -> Value {
    let hearing = async {
        loop {
            for uri in ["a://other", "a://b"] {
                let method = "notifications/resources/updated";
                upstream.say(json!({"method": method, "params": {"uri": uri}}));
            }
            let told = tokio::time::timeout(Duration::from_millis(200), stream.message()).await;
            match told.map(Option::unwrap) {
                Ok(told) if told["method"] == "notifications/resources/updated" => return told,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.unwrap()
}

#[tokio::test]
async fn the_state_of_a_task_is_told_to_nobody_who_shares_the_session() {
    let upstream = Upstream::start(Era::Legacy).await;
    let shared = upstream.definition(", isolation: shared");
    let bridge = Bridge::start(&servers(&[("fake", shared)])).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    client.answer(0, "tools/list", json!({})).await;
    let uri = json!({"uri": "a://b"});
    client.answer(1, "resources/subscribe", uri).await;
    let mut stream = client.get(&[]).await;
    updated(&upstream, &mut stream).await;
    let state = json!({"taskId": "t1", "status": "working", "statusMessage": "secret"});
    upstream.say(json!({"method": "notifications/tasks/status", "params": state}));
    let fence = json!({"uri": "a://b", "fence": true});
    upstream.say(json!({"method": "notifications/resources/updated", "params": fence}));
    loop {
        let told = stream.message().await.unwrap();
        assert_ne!(told["method"], "notifications/tasks/status", "{told}");
        if told["params"]["fence"] == true {
            break;
        }
    }
    drop(stream);
    bridge.stop().await;
}

async fn until(stream: &mut Exchange, method: &str) -> Value {
    loop {
        let message = stream.message().await.unwrap();
        if message["method"] == method {
            return message;
        }
    }
}

#[tokio::test]
async fn a_get_stream_taken_up_again_tells_that_anything_may_have_changed() {
    let (_upstream, bridge) = bridge(Era::Legacy).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    client
        .answer(1, "resources/subscribe", json!({"uri": "a://b"}))
        .await;
    let mut first = client.get(&[]).await;
    let mut second = client.get(&[("last-event-id", "0.g.7")]).await;
    assert!(
        first.message().await.is_none(),
        "the newer stream takes over"
    );
    let mut told = Vec::new();
    for _ in 0..4 {
        let (id, data) = second.event().await.unwrap();
        assert!(id.is_some());
        let message: Value = serde_json::from_str(&data).unwrap();
        told.push(message["method"].as_str().unwrap().to_owned());
    }
    told.sort();
    let expected = [
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/tools/list_changed",
    ];
    assert_eq!(told, expected);
    drop(second);
    bridge.stop().await;
}

#[tokio::test]
async fn many_changes_at_once_are_one_notice() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    client.answer(0, "tools/list", json!({})).await;
    client
        .answer(1, "tools/call", json!({"name": "echo", "arguments": {}}))
        .await;
    let mut stream = client.get(&[]).await;
    for number in 0..20 {
        upstream.add_tool(&format!("t{number}"));
    }
    let mut notices = 0;
    while !quiet(&mut stream).await {
        notices += 1;
    }
    assert!(
        (1..=3).contains(&notices),
        "{notices} notices of 20 changes"
    );
    let done = client.answer(2, "tools/call", json!({"name": "t19"})).await;
    assert!(done["error"].is_null(), "{done}");
    drop(stream);
    bridge.stop().await;
}

#[tokio::test]
async fn the_deferred_face_tells_only_when_its_own_list_changes() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Legacy::open(&bridge, "/mcp", json!({})).await;
    let list = client.answer(0, "tools/list", json!({})).await;
    assert!(
        list.to_string().contains("fake__echo"),
        "few tools are listed whole: {list}"
    );
    let mut stream = client.get(&[]).await;
    upstream.add_tool("t0");
    upstream.add_tool("t1");
    until(&mut stream, "notifications/tools/list_changed").await;
    let list = client.answer(1, "tools/list", json!({})).await;
    assert!(list.to_string().contains("find_tools"), "{list}");
    // From here on the list stays what it is, whatever comes behind it.
    upstream.add_tool("t2");
    assert!(quiet(&mut stream).await);
    let call = json!({"name": "call_tool", "arguments": {"ref": "fake.echo", "arguments": {"message": "x"}}});
    assert_eq!(text(&client.answer(2, "tools/call", call).await), "x");
    drop(stream);
    bridge.stop().await;
}
