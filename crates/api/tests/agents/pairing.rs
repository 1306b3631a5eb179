//! A token by a short code.

use serde_json::{Value, json};

use crate::agent::{Agent, with_key};
use crate::kit::Bridge;

#[tokio::test]
async fn an_agent_without_a_token_gets_one_by_a_code_that_a_person_confirms() {
    let bridge = Bridge::start("").await;
    let open = ["no-key:"];
    let begun = bridge
        .send(
            "POST /v1/agents/pair",
            &open,
            r#"{"agent_id": "laptop", "label": "Ann's laptop"}"#,
        )
        .await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let begun = begun.json();
    let poll = json!({"poll_token": begun["poll_token"]}).to_string();
    let standing = async || {
        bridge
            .send("POST /v1/agents/pair/poll", &open, &poll)
            .await
            .json()
    };
    assert_eq!(standing().await, json!({"status": "pending"}));
    let code = json!({"code": begun["code"]});
    let unsigned = bridge
        .send("POST /v1/agents/pair/confirm", &open, &code.to_string())
        .await;
    assert_eq!(unsigned.status, 401, "confirming needs a person");
    let wrong = bridge
        .post("/v1/agents/pair/confirm", &json!({"code": "AAAA-AAAA"}))
        .await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (404, "agent_not_found")
    );
    let bob = bridge.key_of("bob", "viewer").await;
    let paired = with_key(&bridge, &bob, "POST /v1/agents/pair/confirm", &code).await;
    assert_eq!(
        paired.json(),
        json!({"agent_id": "laptop", "label": "Ann's laptop"})
    );
    let twice = with_key(&bridge, &bob, "POST /v1/agents/pair/confirm", &code).await;
    assert_eq!(twice.status, 404, "a code is good once");
    let approved = standing().await;
    assert_eq!(
        (&approved["status"], &approved["agent_id"]),
        (&json!("approved"), &json!("laptop"))
    );
    let url = format!("ws://{}/v1/agents/tunnel", bridge.address);
    assert_eq!(approved["tunnel_url"], url);
    let token = approved["token"].as_str().unwrap();
    let agent = Agent::connect(bridge.address, "laptop", token).await;
    let view = with_key(&bridge, &bob, "GET /v1/agents/laptop", &Value::Null)
        .await
        .json();
    assert_eq!(
        (&view["status"], &view["user"]),
        (&json!("online"), &json!("bob"))
    );
    assert_eq!(view["meta"]["hostname"], "box");
    paired_again(&bridge, &bob, agent).await;
    bridge.stop().await;
}

/// Pairing the id again signs the first machine out.
async fn paired_again(bridge: &Bridge, bob: &str, mut agent: Agent) {
    let open = ["no-key:"];
    let again = bridge
        .send("POST /v1/agents/pair", &open, r#"{"agent_id": "laptop"}"#)
        .await
        .json();
    let code = json!({"code": again["code"]});
    with_key(bridge, bob, "POST /v1/agents/pair/confirm", &code).await;
    assert_eq!(agent.closed().await.code, Some(4401));
}

#[tokio::test]
async fn who_pairs_without_a_credential_is_bounded_and_learns_nothing() {
    let bridge = Bridge::start("").await;
    let open = ["no-key:"];
    let expired = bridge
        .send(
            "POST /v1/agents/pair/poll",
            &open,
            r#"{"poll_token": "pair_nonsense"}"#,
        )
        .await;
    assert_eq!(expired.json(), json!({"status": "expired"}));
    let large = format!(r#"{{"label": "{}"}}"#, "x".repeat(8000));
    let refused = bridge.send("POST /v1/agents/pair", &open, &large).await;
    assert_eq!(refused.status, 413);
    for bad in [
        r#"{"agent_id": "x"}"#,
        r#"{"label": ""}"#,
        r#"{"labels": "x"}"#,
        "[",
    ] {
        let refused = bridge.send("POST /v1/agents/pair", &open, bad).await;
        assert_eq!(refused.status, 400, "{bad}");
    }
    let mut limited = None;
    for _ in 0..200 {
        let reply = bridge.send("POST /v1/agents/pair", &open, "").await;
        if reply.status != 201 {
            limited = Some(reply);
            break;
        }
    }
    let limited = limited.unwrap();
    assert_eq!(
        (limited.status, limited.code().as_str()),
        (429, "rate_limited")
    );
    assert!(limited.header("retry-after").is_some());
    let narrowed = bridge
        .post("/v1/keys", &json!({"user": "admin", "scopes": ["demo.*"]}))
        .await
        .json();
    let key = narrowed["key"].as_str().unwrap();
    let refused = with_key(&bridge, key, "POST /v1/agents/tokens", &json!({})).await;
    assert_eq!(refused.status, 403, "a narrowed key makes no agents");
    bridge.stop().await;
}
