//! Who is let in, and what ends a connection.

use serde_json::{Value, json};
use std::time::Duration;

use tokio::time::Instant;

use crate::agent::{Agent, SUBPROTOCOL, dial, ready, server, token, with_key};
use crate::kit::{Bridge, eventually};

#[tokio::test]
async fn the_tunnel_is_a_websocket_of_one_subprotocol_and_no_pages() {
    let bridge = Bridge::start("").await;
    let origin = format!("http://{}", bridge.address);
    for (headers, status) in [
        (vec![], 400),
        (vec![("sec-websocket-protocol", "something.else")], 400),
        (
            vec![
                ("sec-websocket-protocol", SUBPROTOCOL),
                ("origin", "http://evil.example"),
            ],
            403,
        ),
        (
            vec![
                ("sec-websocket-protocol", SUBPROTOCOL),
                ("origin", origin.as_str()),
            ],
            403,
        ),
        (
            vec![
                ("sec-websocket-protocol", SUBPROTOCOL),
                ("host", "evil.example"),
            ],
            403,
        ),
    ] {
        let refused = dial(bridge.address, &headers).await;
        assert_eq!(refused.err(), Some(status), "{headers:?}");
    }
    let plain = bridge.send("GET /v1/agents/tunnel", &["no-key:"], "").await;
    assert_eq!(
        (plain.status, plain.code().as_str()),
        (400, "invalid_request")
    );
    let posted = bridge
        .send("POST /v1/agents/tunnel", &["no-key:"], "{}")
        .await;
    assert_eq!(
        posted.status, 401,
        "only what the route is for needs no key"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn nothing_but_hello_and_a_good_token_opens_the_tunnel() {
    let (bridge, agent, good) = ready().await;
    let refused = async |id: &str, token: &str| {
        let mut agent = Agent::dialled(bridge.address, id).await;
        agent.hello(&[], &[]).await;
        agent.auth(token).await;
        agent.closed().await
    };
    let of_nobody = refused("laptop", "not.a.token").await;
    assert_eq!(of_nobody.code, Some(1008));
    for (id, token) in [
        ("desktop", good.as_str()),
        ("laptop", ""),
        ("laptop", &bridge.key),
    ] {
        assert_eq!(
            refused(id, token).await,
            of_nobody,
            "all refusals are alike"
        );
    }
    let mut early = Agent::dialled(bridge.address, "laptop").await;
    early.tools(&[server("files")]).await;
    assert_eq!(early.closed().await.code, Some(1008), "TOOLS before AUTH");
    let mut early = Agent::dialled(bridge.address, "laptop").await;
    early.auth(&good).await;
    assert_eq!(early.closed().await.code, Some(1008), "AUTH before HELLO");
    let mut garbage = Agent::dialled(bridge.address, "laptop").await;
    garbage.raw("{".to_owned()).await;
    assert_eq!(garbage.closed().await.code, Some(1008));
    drop(agent);
    bridge.stop().await;
}

#[tokio::test]
async fn a_replayed_auth_on_a_good_connection_is_a_bad_frame_and_three_of_them_are_the_end() {
    let (bridge, mut agent, good) = ready().await;
    for _ in 0..3 {
        agent.auth(&good).await;
    }
    assert_eq!(agent.closed().await.code, Some(4400));
    bridge.stop().await;
}

#[tokio::test]
async fn a_reset_closes_the_connection_at_once_and_the_old_token_is_good_for_nothing() {
    let (bridge, mut agent, old) = ready().await;
    let again = token(&bridge, &bridge.key, "laptop", false).await;
    assert_eq!(again, old, "while it is good, the same is given");
    let asked = Instant::now();
    let reset = with_key(
        &bridge,
        &bridge.key,
        "POST /v1/agents/tokens",
        &json!({"agent_id": "laptop", "reset": true}),
    )
    .await
    .json();
    assert_eq!(
        (&reset["version"], &reset["reset"]),
        (&json!(2), &json!(true))
    );
    let closed = agent.closed().await;
    assert_eq!(closed.code, Some(4401), "{closed:?}");
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    let mut late = Agent::dialled(bridge.address, "laptop").await;
    late.hello(&[], &[]).await;
    late.auth(&old).await;
    assert_eq!(late.closed().await.code, Some(1008));
    let mut new = Agent::connect(bridge.address, "laptop", reset["token"].as_str().unwrap()).await;
    assert_eq!(new.welcome["epoch"], 2);
    let gone = with_key(
        &bridge,
        &bridge.key,
        "DELETE /v1/agents/laptop",
        &Value::Null,
    )
    .await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    assert_eq!(new.closed().await.code, Some(4401));
    let unknown = bridge.get("/v1/agents/laptop").await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "agent_not_found")
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let bridge = Bridge::start("").await;
    let body = json!({"agent_id": "laptop", "expires_in_s": 2});
    let issued = bridge.post("/v1/agents/tokens", &body).await.json();
    let token = issued["token"].as_str().unwrap();
    let mut agent = Agent::connect(bridge.address, "laptop", token).await;
    assert_eq!(agent.closed().await.code, Some(4401));
    let mut late = Agent::dialled(bridge.address, "laptop").await;
    late.hello(&[], &[]).await;
    late.auth(token).await;
    assert_eq!(late.closed().await.code, Some(1008));
    bridge.stop().await;
}

#[tokio::test]
async fn the_newest_connection_of_an_agent_wins() {
    let (bridge, mut first, token) = ready().await;
    let second = Agent::connect(bridge.address, "laptop", &token).await;
    assert_eq!(first.closed().await.code, Some(4409));
    assert_eq!(second.welcome["epoch"], 2);
    let view = bridge.get("/v1/agents/laptop").await.json();
    assert_eq!(
        (&view["status"], &view["epoch"]),
        (&json!("online"), &json!(2))
    );
    drop(second);
    bridge.stop().await;
}

#[tokio::test]
async fn agents_come_and_go_as_events_of_their_owner() {
    let (bridge, agent, _) = ready().await;
    let other = bridge.key_of("bob", "operator").await;
    agent.cut();
    let told = eventually("agent_offline", || async {
        let kept = bridge
            .get("/v1/events/history?types=agent_online,agent_offline")
            .await;
        let kept = kept.json();
        let items = kept["items"].as_array()?.clone();
        (items.len() >= 2).then_some(items)
    })
    .await;
    assert_eq!(told[0]["type"], "agent_online");
    assert_eq!(told[1]["type"], "agent_offline");
    assert_eq!(told[1]["agent_id"], "laptop");
    assert_eq!(told[1]["data"]["agent_id"], "laptop");
    let path = "GET /v1/events/history?types=agent_online,agent_offline";
    let foreign = with_key(&bridge, &other, path, &Value::Null).await.json();
    assert_eq!(foreign["items"], json!([]));
    bridge.stop().await;
}
