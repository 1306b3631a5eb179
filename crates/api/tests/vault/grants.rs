//! Grants at an authorization server: given by people, renewed by one, taken back, and never anybody else's.

use serde_json::{Value, json};

use super::kit::{Bridge, eventually};
use super::world::{Browser, World, as_user, call, state_of};

const OAUTH: &str = "allow_private: true, auth: {oauth: {}}";

async fn bridge(world: &World) -> (Bridge, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let bridge = Bridge::start(&world.yaml(folder.path(), OAUTH)).await;
    (bridge, folder)
}

/// A call without a grant; its link.
async fn link(bridge: &Bridge, key: &str) -> String {
    let refused = call(bridge, key).await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    let problem = refused.json();
    assert_eq!(problem["code"], "upstream_needs_auth");
    assert_eq!(problem["executed"], "no");
    problem["link"].as_str().unwrap().to_owned()
}

/// The whole way, once.
async fn grant(world: &World, bridge: &Bridge, key: &str) {
    let mut browser = Browser::new(bridge);
    let authorize = browser.open(&link(bridge, key).await).await;
    let code = world.sign_in(&authorize);
    let issuer = world.issuer();
    let back = browser
        .come_back(&state_of(&authorize), &code, Some(&issuer))
        .await;
    assert_eq!(back.status, 200, "{}", back.text());
    eventually("a call with the grant", || async {
        (call(bridge, key).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_grants_by_the_link_of_a_refused_call_and_nobody_else_gets_it() {
    let world = World::new().await;
    let (bridge, _folder) = bridge(&world).await;
    let (ann, bob) = (
        bridge.key_of("ann", "operator").await,
        bridge.key_of("bob", "operator").await,
    );
    grant(&world, &bridge, &ann).await;
    // Another user has none, and is shown a link of its own.
    link(&bridge, &bob).await;
    let shown = as_user(&bridge, &ann, "GET /v1/credentials", &Value::Null)
        .await
        .json();
    assert_eq!(shown["items"][0]["server"], "up");
    assert_eq!(shown["items"][0]["grants"][0]["issuer"], world.issuer());
    assert_eq!(shown["items"][0]["grants"][0]["scope"], "tools");
    assert!(!shown.to_string().contains("CANARY"));
    let none = as_user(&bridge, &bob, "GET /v1/credentials", &Value::Null)
        .await
        .json();
    assert_eq!(none, json!({"items": []}));
    assert_eq!(world.facts().registered, 1, "the bridge registered once");
    let resources = world.facts().resources.clone();
    assert!(resources.iter().all(|resource| *resource == world.url()));
    let gone = as_user(&bridge, &ann, "DELETE /v1/credentials/up", &Value::Null).await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    link(&bridge, &ann).await;
    bridge.stop().await;
}

#[tokio::test]
async fn what_a_caller_shows_the_bridge_is_never_passed_on() {
    let world = World::new().await;
    let (bridge, _folder) = bridge(&world).await;
    let ann = bridge.key_of("ann", "operator").await;
    grant(&world, &bridge, &ann).await;
    let authorization = format!("authorization: Bearer {ann}");
    let body = json!({"ref": "up.whose", "arguments": {}}).to_string();
    let headers = [
        authorization.as_str(),
        "cookie: session=CALLER",
        "x-forwarded-for: 10.0.0.1",
        "forwarded: for=10.0.0.1",
        "x-api-key: CALLER",
        "proxy-authorization: Basic CALLER",
    ];
    let called = bridge.send("POST /v1/calls", &headers, &body).await;
    assert_eq!(called.status, 200, "{}", called.text());
    let seen_there = world.facts().seen.clone();
    assert!(seen_there.len() > 3);
    for seen in &seen_there {
        for (name, value) in seen {
            assert!(
                !value.contains(&ann) && !value.contains("CALLER"),
                "{name}: {value}"
            );
        }
        for name in [
            "cookie",
            "x-forwarded-for",
            "forwarded",
            "x-api-key",
            "proxy-authorization",
        ] {
            assert!(!seen.contains_key(name), "{name}");
        }
        let shown = seen.get("authorization");
        assert!(shown.is_none_or(|token| token.starts_with("Bearer CANARY-access-")));
    }
    bridge.stop().await;
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_not_redeemed() {
    let world = World::new().await;
    let (bridge, _folder) = bridge(&world).await;
    let ann = bridge.key_of("ann", "operator").await;
    for iss in [Some("http://evil.example"), Some(""), None] {
        let mut browser = Browser::new(&bridge);
        let authorize = browser.open(&link(&bridge, &ann).await).await;
        let code = world.sign_in(&authorize);
        let state = state_of(&authorize);
        let back = browser.come_back(&state, &code, iss).await;
        assert_eq!(back.status, 502, "{iss:?}: {}", back.text());
        // The state is used up by it: the right answer comes too late.
        let late = browser
            .come_back(&state, &code, Some(&world.issuer()))
            .await;
        assert_eq!(late.status, 400, "{}", late.text());
    }
    assert_eq!(world.facts().redeemed, 0);
    bridge.stop().await;
}

#[tokio::test]
async fn a_state_is_good_once_and_in_its_own_browser_alone() {
    let world = World::new().await;
    let (bridge, _folder) = bridge(&world).await;
    let (ann, bob) = (
        bridge.key_of("ann", "operator").await,
        bridge.key_of("bob", "operator").await,
    );
    let (mut hers, mut his) = (Browser::new(&bridge), Browser::new(&bridge));
    let at_issuer = hers.open(&link(&bridge, &ann).await).await;
    his.open(&link(&bridge, &bob).await).await;
    let (state, code) = (state_of(&at_issuer), world.sign_in(&at_issuer));
    let issuer = world.issuer();
    let without = Browser::new(&bridge);
    for other in [&his, &without] {
        let stolen = other.come_back(&state, &code, Some(&issuer)).await;
        assert_eq!(stolen.status, 400, "{}", stolen.text());
    }
    // Her browser, but he is signed in there.
    let line = format!("GET /v1/oauth/callback?state={state}&code={code}&iss={issuer}");
    let cookie = format!("cookie: {}", hers.cookie.as_ref().unwrap());
    let authorization = format!("authorization: Bearer {bob}");
    let foreign = bridge.send(&line, &[&cookie, &authorization], "").await;
    assert_eq!(foreign.status, 403, "{}", foreign.text());
    assert_eq!(world.facts().redeemed, 0, "no code was shown to anybody");
    let back = hers.come_back(&state, &code, Some(&issuer)).await;
    assert_eq!(back.status, 200, "{}", back.text());
    let replayed = hers.come_back(&state, &code, Some(&issuer)).await;
    assert_eq!(replayed.status, 400, "{}", replayed.text());
    assert_eq!(world.facts().redeemed, 1);
    bridge.stop().await;
}

#[tokio::test]
async fn another_users_link_and_an_invented_one_begin_nothing() {
    let world = World::new().await;
    let (bridge, _folder) = bridge(&world).await;
    let (ann, bob) = (
        bridge.key_of("ann", "operator").await,
        bridge.key_of("bob", "operator").await,
    );
    let hers = link(&bridge, &ann).await;
    let (_, query) = hers.split_once('?').unwrap();
    for line in [
        format!("GET /v1/oauth/start?{query}"),
        "POST /v1/oauth/start".to_owned(),
    ] {
        let authorization = format!("authorization: Bearer {bob}");
        let foreign = bridge.send(&line, &[&authorization], query).await;
        assert_eq!(foreign.status, 403, "{}", foreign.text());
    }
    // Nor does it in the browser he is signed in in.
    let login = json!({"key": bob}).to_string();
    let login = bridge.send("POST /v1/login", &["no-key:"], &login).await;
    let cookie = login.header("set-cookie").unwrap();
    let cookie = format!("cookie: {}", cookie.split(';').next().unwrap());
    for line in [
        format!("GET /v1/oauth/start?{query}"),
        "POST /v1/oauth/start".to_owned(),
    ] {
        let foreign = bridge.send(&line, &["no-key:", &cookie], query).await;
        assert_eq!(foreign.status, 403, "{}", foreign.text());
    }
    for ticket in ["", "AAAA", &query["ticket=".len()..query.len() - 4]] {
        let body = format!("ticket={ticket}");
        let invented = bridge
            .send("POST /v1/oauth/start", &["no-key:"], &body)
            .await;
        assert_eq!(invented.status, 400, "{}", invented.text());
    }
    // A page of another site cannot press the button.
    let origin = "origin: http://evil.example";
    let forged = bridge
        .send("POST /v1/oauth/start", &["no-key:", origin], query)
        .await;
    assert_eq!(forged.status, 403, "{}", forged.text());
    assert_eq!(world.facts().registered, 0);
    bridge.stop().await;
}

#[tokio::test]
async fn fifty_callers_with_a_dead_token_cause_one_refresh() {
    let world = World::new().await;
    let (bridge, _folder) = bridge(&world).await;
    let ann = bridge.key_of("ann", "operator").await;
    grant(&world, &bridge, &ann).await;
    world.forget_tokens();
    let calls = (0..50).map(|_| call(&bridge, &ann));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(world.facts().refreshes, 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_grant_taken_back_asks_for_another_one_after_one_refresh() {
    let world = World::new().await;
    let (bridge, _folder) = bridge(&world).await;
    let ann = bridge.key_of("ann", "operator").await;
    grant(&world, &bridge, &ann).await;
    world.forget_tokens();
    world.facts().refuses = Some((400, "invalid_grant"));
    let calls = (0..20).map(|_| call(&bridge, &ann));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.status, 502, "{}", reply.text());
        assert_eq!(reply.code(), "upstream_needs_auth");
        assert!(!reply.text().contains("CANARY"), "{}", reply.text());
        assert!(reply.json()["link"].is_string(), "{}", reply.text());
    }
    assert_eq!(world.facts().refreshes, 1);
    world.facts().refuses = None;
    grant(&world, &bridge, &ann).await;
    bridge.stop().await;
}

#[tokio::test]
async fn metadata_leads_to_no_address_the_policy_closes() {
    let world = World::new().await;
    let sentinel = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let closed = format!("http://{}", sentinel.local_addr().unwrap());
    let (bridge, _folder) = bridge(&world).await;
    let ann = bridge.key_of("ann", "operator").await;
    for what in [
        "resource_metadata",
        "authorization_servers",
        "registration_endpoint",
        "token_endpoint",
    ] {
        world.facts().misled.insert(what, format!("{closed}/x"));
        // A session that waits before its next try would repeat the last challenge.
        as_user(&bridge, &ann, "DELETE /v1/credentials/up", &Value::Null).await;
        let told = link(&bridge, &ann).await;
        let (_, form) = told.split_once('?').unwrap();
        let begun = bridge
            .send("POST /v1/oauth/start", &["no-key:"], form)
            .await;
        if what == "token_endpoint" {
            // Only the code would go there, and it does not.
            let mut browser = Browser::new(&bridge);
            let authorize = browser.open(&told).await;
            let code = world.sign_in(&authorize);
            let issuer = world.issuer();
            let back = browser
                .come_back(&state_of(&authorize), &code, Some(&issuer))
                .await;
            assert_eq!(back.status, 502, "{}", back.text());
        } else {
            assert_eq!(begun.status, 502, "{what}: {}", begun.text());
        }
        world.facts().misled.clear();
    }
    let hit = tokio::time::timeout(std::time::Duration::ZERO, sentinel.accept()).await;
    assert!(hit.is_err(), "nothing came to the closed address");
    bridge.stop().await;
}

#[tokio::test]
async fn metadata_that_speaks_for_others_or_names_no_web_page_is_not_used() {
    let world = World::new().await;
    let (bridge, _folder) = bridge(&world).await;
    let ann = bridge.key_of("ann", "operator").await;
    // What is no address for a browser is not told to one.
    for bad in ["javascript:alert(1)", "data:text/html,x", "//x"] {
        world
            .facts()
            .misled
            .insert("authorization_endpoint", bad.to_owned());
        let told = link(&bridge, &ann).await;
        let (_, form) = told.split_once('?').unwrap();
        let begun = bridge
            .send("POST /v1/oauth/start", &["no-key:"], form)
            .await;
        assert_eq!(begun.status, 502, "{bad}: {}", begun.text());
        world.facts().misled.clear();
    }
    // Metadata about somebody else, and an issuer that names another.
    for what in ["resource", "issuer"] {
        world
            .facts()
            .misled
            .insert(what, "http://127.0.0.1:9/other".to_owned());
        let told = link(&bridge, &ann).await;
        let (_, form) = told.split_once('?').unwrap();
        let begun = bridge
            .send("POST /v1/oauth/start", &["no-key:"], form)
            .await;
        assert_eq!(begun.status, 502, "{what}: {}", begun.text());
        world.facts().misled.clear();
    }
    assert_eq!(world.facts().registered, 0);
    bridge.stop().await;
}

#[tokio::test]
async fn without_a_sealing_key_grants_are_refused_with_a_word() {
    let world = World::new().await;
    let bridge = Bridge::start("outbound: {allow_private: [127.0.0.1]}\n").await;
    let definition =
        json!({"transport": "streamable_http", "url": world.url(), "auth": {"oauth": {}}});
    let made = bridge
        .post(
            "/v1/servers",
            &json!({"name": "up", "definition": definition}),
        )
        .await;
    assert_eq!(made.status, 422, "{}", made.text());
    assert_eq!(made.json()["errors"][0]["pointer"], "/definition/auth");
    assert!(made.text().contains("secrets.key_file"), "{}", made.text());
    let plain = json!({"transport": "streamable_http", "era": "legacy", "url": world.url()});
    let made = bridge
        .post("/v1/servers", &json!({"name": "up", "definition": plain}))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let refused = bridge
        .post("/v1/calls", &json!({"ref": "up.whose", "arguments": {}}))
        .await;
    assert_eq!(refused.code(), "upstream_needs_auth");
    assert!(refused.json()["link"].is_null());
    bridge.stop().await;
}
