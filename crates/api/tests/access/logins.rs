//! Signing in with a browser: what the cookie opens, what it does not, and how it ends.

use serde_json::{Value, json};

use crate::issuer::{FakeIssuer, tokens};
use crate::kit::{Bridge, Reply, demo, eventually, start};
use crate::streams::Open;

/// A browser that signed in.
struct Browser {
    cookie: String,
    csrf: String,
}

impl Browser {
    async fn sign_in(bridge: &Bridge, key: &str) -> Self {
        let reply = try_sign_in(bridge, key).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let set = reply.header("set-cookie").unwrap();
        let csrf = reply.json()["csrf_token"].as_str().unwrap().to_owned();
        let cookie = format!("cookie: {}", set.split(';').next().unwrap());
        Self { cookie, csrf }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a place and the parts of a request"
    )]
    async fn send(&self, bridge: &Bridge, line: &str, more: &[&str], body: &str) -> Reply {
        let mut headers = vec!["no-key: 1", &self.cookie];
        headers.extend_from_slice(more);
        bridge.send(line, &headers, body).await
    }

    async fn get(&self, bridge: &Bridge, path: &str) -> Reply {
        self.send(bridge, &format!("GET {path}"), &[], "").await
    }

    fn word(&self) -> String {
        format!("x-csrf-token: {}", self.csrf)
    }
}

async fn try_sign_in(bridge: &Bridge, key: &str) -> Reply {
    let body = json!({"key": key}).to_string();
    bridge.send("POST /v1/login", &["no-key: 1"], &body).await
}

#[tokio::test]
async fn a_cookie_opens_rest_to_our_own_page_and_nothing_else() {
    let bridge = Bridge::start(&demo()).await;
    let reply = try_sign_in(&bridge, &bridge.key).await;
    let set = reply.header("set-cookie").unwrap();
    for part in [
        "paperbot_login=",
        "HttpOnly",
        "SameSite=Strict",
        "Path=/",
        "Max-Age=",
    ] {
        assert!(set.contains(part), "{set}");
    }
    assert!(
        !reply.text().contains(set.split(['=', ';']).nth(1).unwrap()),
        "the cookie stands in the head alone"
    );
    let browser = Browser::sign_in(&bridge, &bridge.key).await;
    let me = browser.get(&bridge, "/v1/me").await.json();
    assert_eq!(me["user"], "admin");
    assert!(me["key_id"].as_str().unwrap().starts_with("login:"), "{me}");
    let again = browser.get(&bridge, "/v1/login").await.json();
    assert_eq!(
        again["csrf_token"],
        json!(browser.csrf),
        "a page that was loaded anew finds its word"
    );
    // What changes anything needs the word; a wrong one is none.
    let workspace = json!({"workspace": "w"}).to_string();
    let post = async |more: &[&str]| {
        let reply = browser
            .send(&bridge, "POST /v1/workspaces", more, &workspace)
            .await;
        (reply.status, reply.code())
    };
    let forbidden = (403, "forbidden".to_owned());
    assert_eq!(post(&[]).await, forbidden);
    assert_eq!(post(&["x-csrf-token: 00"]).await, forbidden);
    let other = Browser::sign_in(&bridge, &bridge.key).await;
    assert_eq!(
        post(&[&other.word()]).await,
        forbidden,
        "another login's word"
    );
    let origin = format!("origin: http://{}", bridge.address);
    let word = browser.word();
    let ours = [word.as_str(), &origin];
    let made = browser.send(&bridge, "POST /v1/workspaces", &ours, &workspace);
    assert_eq!(made.await.status, 201);
    bridge.stop().await;
}

#[tokio::test]
async fn neither_mcp_nor_the_tunnel_nor_foreign_pages_get_anywhere_with_a_cookie() {
    let bridge = Bridge::start(&demo()).await;
    let browser = Browser::sign_in(&bridge, &bridge.key).await;
    for line in [
        "POST /mcp",
        "GET /mcp",
        "DELETE /mcp",
        "GET /sse",
        "POST /message?sessionId=x",
        "POST /mcp/demo",
    ] {
        let reply = browser.send(&bridge, line, &[&browser.word()], "").await;
        assert_eq!(reply.status, 401, "{line}");
    }
    let word = browser.word();
    let foreign = ["origin: http://evil.test", word.as_str()];
    let foreign = browser.send(&bridge, "GET /v1/me", &foreign, "").await;
    assert_eq!(foreign.status, 403);
    let upgrade = [
        "origin: http://evil.test",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-protocol: paperbot.tunnel.v1",
    ];
    let hijack = browser
        .send(&bridge, "GET /v1/agents/tunnel", &upgrade, "")
        .await;
    assert_eq!(hijack.status, 403);
    bridge.stop().await;
}

#[tokio::test]
async fn a_login_ends_by_leaving_with_its_key_and_by_time() {
    let bridge = Bridge::start("auth: {login_ttl_s: 8}\n").await;
    let key = bridge.key_of("ann", "viewer").await;
    let browser = Browser::sign_in(&bridge, &key).await;
    let left = browser
        .send(&bridge, "POST /v1/logout", &[&browser.word()], "")
        .await;
    assert_eq!(left.status, 204);
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(browser.get(&bridge, "/v1/me").await.status, 401);
    // By its time, and the stream it holds open with it.
    let browser = Browser::sign_in(&bridge, &key).await;
    let stream = Open::new(
        &bridge,
        "GET /v1/events",
        &["no-key: 1", &browser.cookie],
        "",
    )
    .await;
    stream.ends().await;
    assert_eq!(browser.get(&bridge, "/v1/me").await.status, 401);
    bridge.stop().await;
}

#[tokio::test]
async fn a_login_ends_with_the_key_it_was_begun_with() {
    let bridge = Bridge::start("").await;
    let key = bridge.key_of("ann", "viewer").await;
    let browser = Browser::sign_in(&bridge, &key).await;
    let stream = Open::new(
        &bridge,
        "GET /v1/events",
        &["no-key: 1", &browser.cookie],
        "",
    )
    .await;
    let id = key.split('_').nth(1).unwrap();
    assert_eq!(
        bridge
            .send(&format!("DELETE /v1/keys/{id}"), &[], "")
            .await
            .status,
        204
    );
    stream.ends().await;
    assert_eq!(browser.get(&bridge, "/v1/me").await.status, 401);
    assert_eq!(try_sign_in(&bridge, &key).await.status, 401);
    bridge.stop().await;
}

#[tokio::test]
async fn a_login_outlives_a_restart_and_its_end_does_too() {
    let bridge = Bridge::start("").await;
    let stays = Browser::sign_in(&bridge, &bridge.key).await;
    let leaves = Browser::sign_in(&bridge, &bridge.key).await;
    leaves
        .send(&bridge, "POST /v1/logout", &[&leaves.word()], "")
        .await;
    let Bridge {
        home, daemon, key, ..
    } = bridge;
    daemon.shutdown().await;
    let daemon = start(home.path(), "").await.unwrap();
    let address = daemon.address();
    let bridge = Bridge {
        home,
        daemon,
        address,
        key,
    };
    assert_eq!(stays.get(&bridge, "/v1/me").await.status, 200);
    assert_eq!(leaves.get(&bridge, "/v1/me").await.status, 401);
    let secret = stays.cookie.rsplit('_').next().unwrap().to_owned();
    let store = std::fs::read_dir(bridge.home.path().join("data")).unwrap();
    for file in store {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let found = bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!found, "no cookie stands in the store");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn signing_in_is_no_way_to_guess() {
    let bridge = Bridge::start("").await;
    let mut last = Value::Null;
    for _ in 0..10 {
        let reply = try_sign_in(&bridge, "pb_0123456789abcdef_00").await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "unauthenticated")
        );
        last = reply.json();
    }
    assert!(!last.to_string().contains("0123456789abcdef"));
    let reply = try_sign_in(&bridge, &bridge.key).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (429, "rate_limited"),
        "not even a good one"
    );
    assert!(reply.header("retry-after").is_some());
    assert_eq!(
        bridge.get("/v1/me").await.status,
        200,
        "whoever has a key is not kept out"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn over_https_the_cookie_is_bound_to_the_host_and_tokens_sign_in_as_well() {
    let issuer = FakeIssuer::start().await;
    let yaml = format!(
        "public_url: https://bridge.example\nauth: {{{}}}\n",
        issuer.section()
    );
    let bridge = Bridge::start(&yaml).await;
    let token = tokens()["good"]["RS256"].as_str().unwrap().to_owned();
    let browser = Browser::sign_in(&bridge, &token).await;
    assert!(
        browser.cookie.starts_with("cookie: __Host-paperbot="),
        "{}",
        browser.cookie
    );
    let me = browser.get(&bridge, "/v1/me").await.json();
    assert_eq!(
        (&me["user"], &me["roles"]),
        (&json!("ann"), &json!(["operator"]))
    );
    // Nothing a token may not do is done by the login it began.
    let wish = json!({"user": "ann"}).to_string();
    let refused = browser
        .send(&bridge, "POST /v1/keys", &[&browser.word()], &wish)
        .await;
    assert_eq!(refused.status, 403);
    let plain = browser.cookie.replace("__Host-paperbot", "paperbot_login");
    let reply = bridge.send("GET /v1/me", &["no-key: 1", &plain], "").await;
    assert_eq!(reply.status, 401, "the name of plain http is no name here");
    eventually("the login is in the record", || async {
        let record = bridge.get("/v1/audit").await.text();
        (record.contains("login") && !record.contains(&token)).then_some(())
    })
    .await;
    bridge.stop().await;
}
