//! Sessions of legacy clients: signed, bound to whoever opened them, and alive across a restart.

use serde_json::json;

use crate::client::{Legacy, Modern, Wish, send, servers, text};
use crate::kit::{self, Bridge};
use crate::upstream::{Era, Upstream};

async fn with_session(bridge: &Bridge, (path, session): (&str, &str), key: &str) -> u16 {
    let wish = Wish {
        verb: "POST",
        path,
        headers: &[
            ("mcp-session-id", session),
            ("authorization", &format!("Bearer {key}")),
        ],
        body: json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string(),
    };
    send(bridge, wish).await.status
}

#[tokio::test]
async fn a_session_is_its_owners_alone_and_any_other_is_unknown() {
    let upstream = Upstream::start(Era::Legacy).await;
    let both = [
        ("fake", upstream.definition("")),
        ("other", upstream.definition("")),
    ];
    let bridge = Bridge::start(&servers(&both)).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let ann = bridge.key_of("ann", "operator").await;
    let id = client.session.clone();
    assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
    assert_eq!(
        with_session(&bridge, ("/mcp/fake", &id), &bridge.key).await,
        200
    );
    let mut bent = id.clone().into_bytes();
    bent[10] ^= 1;
    let bent = String::from_utf8(bent).unwrap();
    for (path, session, key) in [
        ("/mcp/fake", id.as_str(), &ann),
        ("/mcp/other", &id, &bridge.key),
        ("/mcp", &id, &bridge.key),
        ("/mcp/fake", &bent, &bridge.key),
        ("/mcp/fake", "nonsense", &bridge.key),
        ("/mcp/fake", "", &bridge.key),
    ] {
        assert_eq!(
            with_session(&bridge, (path, session), key).await,
            404,
            "{path} {session}"
        );
    }
    let foreign = with_session_body(&bridge, &id, &ann).await;
    assert_eq!(foreign, with_session_body(&bridge, "nonsense", &ann).await);
    let wish = Wish {
        verb: "POST",
        path: "/mcp/fake",
        headers: &[],
        body: json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string(),
    };
    assert_eq!(
        send(&bridge, wish).await.status,
        400,
        "a session is required"
    );
    bridge.stop().await;
}

async fn with_session_body(bridge: &Bridge, session: &str, key: &str) -> String {
    let wish = Wish {
        verb: "POST",
        path: "/mcp/fake",
        headers: &[
            ("mcp-session-id", session),
            ("authorization", &format!("Bearer {key}")),
        ],
        body: json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string(),
    };
    send(bridge, wish).await.text().await
}

#[tokio::test]
async fn a_deleted_session_stays_ended() {
    let upstream = Upstream::start(Era::Legacy).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    assert_eq!(client.delete().await, 204);
    let mut told = client.ask(1, "tools/list", json!({})).await;
    assert_eq!(told.status, 404);
    assert_eq!(told.json().await["error"]["message"], "Session not found");
    assert_eq!(client.get(&[]).await.status, 404);
    assert_eq!(client.delete().await, 404);
    bridge.stop().await;
}

#[tokio::test]
async fn a_session_survives_a_restart_of_the_bridge_with_what_its_client_can_do() {
    let upstream = Upstream::start(Era::Legacy).await;
    let yaml = servers(&[("fake", upstream.definition(""))]);
    let mut bridge = Bridge::start(&yaml).await;
    let session = {
        let client = Legacy::open(&bridge, "/mcp/fake", json!({"elicitation": {}})).await;
        client.session.clone()
    };
    let Bridge {
        home, daemon, key, ..
    } = bridge;
    daemon.shutdown().await;
    let daemon = kit::start(home.path(), &yaml).await.unwrap();
    bridge = Bridge {
        address: daemon.address(),
        home,
        daemon,
        key,
    };
    let client = Legacy {
        bridge: &bridge,
        path: "/mcp/fake".to_owned(),
        session,
        greeting: json!(null),
    };
    let told = client
        .answer(
            1,
            "tools/call",
            json!({"name": "echo", "arguments": {"message": "hi"}}),
        )
        .await;
    assert_eq!(text(&told), "hi");
    // It is asked, so its ability was not forgotten.
    let mut stream = client
        .ask(2, "tools/call", json!({"name": "ask", "arguments": {}}))
        .await;
    let question = stream.message().await.unwrap();
    assert_eq!(question["method"], "elicitation/create");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"],
        "result": {"action": "accept", "content": {"name": "Ann"}}});
    assert_eq!(client.raw(&answer.to_string()).await.status, 202);
    assert_eq!(text(&stream.answer().await), "accept Ann");
    bridge.stop().await;
}

#[tokio::test]
async fn what_a_session_asked_for_is_asked_for_again_after_a_restart() {
    let upstream = Upstream::start(Era::Legacy).await;
    let yaml = servers(&[("fake", upstream.definition(""))]);
    let bridge = Bridge::start(&yaml).await;
    let session = {
        let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        for (id, method, params) in [
            (1, "logging/setLevel", json!({"level": "warning"})),
            (2, "resources/subscribe", json!({"uri": "a://b"})),
            (3, "resources/subscribe", json!({"uri": "a://gone"})),
            (4, "resources/unsubscribe", json!({"uri": "a://gone"})),
        ] {
            let told = client.answer(id, method, params).await;
            assert_eq!(told["result"], json!({}), "{told}");
        }
        client.session.clone()
    };
    let Bridge {
        home, daemon, key, ..
    } = bridge;
    daemon.shutdown().await;
    let subscribed = upstream.count("resources/subscribe");
    let daemon = kit::start(home.path(), &yaml).await.unwrap();
    let bridge = Bridge {
        address: daemon.address(),
        home,
        daemon,
        key,
    };
    let client = Legacy {
        bridge: &bridge,
        path: "/mcp/fake".to_owned(),
        session,
        greeting: json!(null),
    };
    // The client knows of no restart: it only listens on.
    let mut stream = client.get(&[("last-event-id", "1.g.1")]).await;
    assert_eq!(stream.status, 200);
    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated",
        "params": {"uri": "a://b"}});
    while stream.message().await.unwrap() != updated {}
    assert_eq!(upstream.count("resources/subscribe"), subscribed + 1);
    assert_eq!(upstream.count("logging/setLevel"), 2);
    let log = |level: &str| json!({"method": "notifications/message", "params": {"level": level, "data": level}});
    let heard = async {
        loop {
            // Perhaps the server's own stream is not open yet.
            upstream.say(log("info"));
            upstream.say(log("error"));
            let soon = std::time::Duration::from_millis(200);
            let told = tokio::time::timeout(soon, stream.message()).await;
            match told {
                Ok(told) if told.as_ref().unwrap()["params"]["level"].is_string() => {
                    return told.unwrap();
                }
                Ok(_) | Err(_) => {}
            }
        }
    };
    let told = tokio::time::timeout(kit::PATIENCE, heard).await.unwrap();
    assert_eq!(told["params"]["data"], "error", "info is below the level");
    assert_eq!(client.delete().await, 204);
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_would_rather_have_a_stream_gets_one() {
    let upstream = Upstream::start(Era::Legacy).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let rather = [("accept", "text/event-stream, application/json")];
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    for (id, method, params) in [
        (1, "tools/list", json!({})),
        (
            2,
            "tools/call",
            json!({"name": "echo", "arguments": {"message": "hi"}}),
        ),
    ] {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut stream = client.with(&rather, &body.to_string()).await;
        assert!(stream.is_stream());
        let (primed, data) = stream.event().await.unwrap();
        assert_eq!(data, "", "{method} begins with the event to go on after");
        assert_eq!(stream.message().await.unwrap()["id"], id);
        assert!(stream.message().await.is_none());
        // The answer can be fetched once more.
        let last = primed.unwrap();
        let mut again = client.get(&[("last-event-id", &last)]).await;
        assert_eq!(again.answer().await["id"], id);
        assert!(!client.raw(&body.to_string()).await.is_stream());
    }
    let modern = Modern::new(&bridge, "/mcp/fake", json!({}));
    for (method, params) in [
        ("tools/list", json!({})),
        (
            "tools/call",
            json!({"name": "echo", "arguments": {"message": "hi"}}),
        ),
    ] {
        let mut stream = modern.with(&rather, (3, method, params)).await;
        assert!(stream.is_stream());
        assert_eq!(stream.answer().await["id"], 3);
    }
    // A refusal keeps its status.
    let refused = modern.with(&rather, (4, "no/such", json!({}))).await;
    assert_eq!((refused.status, refused.is_stream()), (404, false));
    bridge.stop().await;
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_again_and_loses_nothing() {
    let upstream = Upstream::start(Era::Legacy).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({"elicitation": {}})).await;
    let mut stream = client
        .ask(2, "tools/call", json!({"name": "ask", "arguments": {}}))
        .await;
    let (primed, data) = stream.event().await.unwrap();
    assert_eq!(data, "", "the stream can be taken up from its first event");
    let (_, question) = stream.event().await.unwrap();
    drop(stream);
    // Losing the connection is no cancellation; the question is told again after the event before it.
    let mut stream = client
        .get(&[("last-event-id", primed.as_deref().unwrap())])
        .await;
    assert_eq!(stream.status, 200);
    let (again, replayed) = stream.event().await.unwrap();
    assert_eq!(replayed, question);
    drop(stream);
    let question: serde_json::Value = serde_json::from_str(&question).unwrap();
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
    assert_eq!(client.raw(&answer.to_string()).await.status, 202);
    let mut stream = client
        .get(&[("last-event-id", again.as_deref().unwrap())])
        .await;
    assert_eq!(text(&stream.answer().await), "decline nobody");
    // And once more, from the start: what was delivered is kept for a while.
    let mut stream = client
        .get(&[("last-event-id", primed.as_deref().unwrap())])
        .await;
    assert_eq!(text(&stream.answer().await), "decline nobody");
    assert_eq!(client.get(&[("last-event-id", "1.2.3")]).await.status, 400);
    assert_eq!(upstream.cancelled(), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn a_request_id_is_used_once_at_a_time() {
    let upstream = Upstream::start(Era::Legacy).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({"elicitation": {}})).await;
    let ask = json!({"name": "ask", "arguments": {}});
    let mut first = client.ask(9, "tools/call", ask.clone()).await;
    first.message().await.unwrap();
    let mut second = client.ask(9, "tools/call", ask).await;
    assert_eq!(second.status, 400);
    assert_eq!(second.json().await["error"]["code"], -32600);
    assert_eq!(upstream.calls(), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_lost_connection_is_no_cancellation_and_a_word_still_is() {
    let upstream = Upstream::start(Era::Legacy).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let slow = json!({"name": "slow", "arguments": {}});
    // Lost before anything was answered.
    let lost = std::time::Duration::from_millis(500);
    let asked = tokio::time::timeout(lost, client.ask(5, "tools/call", slow)).await;
    assert!(asked.is_err(), "it is slow");
    let running = bridge.get("/v1/calls?ref=fake.slow").await.json();
    assert_eq!(running["items"][0]["state"], "dispatched", "{running}");
    assert_eq!(upstream.cancelled(), 0);
    let word = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    assert_eq!(client.raw(word).await.status, 202);
    kit::eventually("it is cancelled", || async {
        (upstream.cancelled() == 1).then_some(())
    })
    .await;
    bridge.stop().await;
}
