//! Tokens of an issuer at the daemon's door; what is wrong with them one by one is tested beside the code that reads
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::kit::{Bridge, demo};

pub(crate) fn tokens() -> Value {
    serde_json::from_str(include_str!("../../../broker/testdata/issuer/tokens.json")).unwrap()
}

/// An issuer that tells its keys, and how often it was asked for them.
pub(crate) struct FakeIssuer {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl FakeIssuer {
    pub(crate) async fn start() -> Self {
        let keys: Vec<Value> = tokens()["keys"]
            .as_object()
            .unwrap()
            .values()
            .cloned()
            .collect();
        let body = json!({ "keys": keys }).to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]).await;
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { url, asked, task }
    }

    /// The section of the configuration that trusts it.
    pub(crate) fn section(&self) -> String {
        format!(
            "jwt: {{issuer: 'https://id.test', audience: bridge, jwks_url: '{}'}}",
            self.url
        )
    }
}

impl Drop for FakeIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn good(name: &str) -> String {
    format!(
        "authorization: Bearer {}",
        tokens()["good"][name].as_str().unwrap()
    )
}

#[tokio::test]
async fn tokens_open_what_their_claims_name_on_every_face() {
    let issuer = FakeIssuer::start().await;
    let bridge = Bridge::start(&format!("auth: {{{}}}\n{}", issuer.section(), demo())).await;
    let me = bridge
        .send("GET /v1/me", &[&good("RS256")], "")
        .await
        .json();
    assert_eq!(
        (&me["user"], &me["roles"]),
        (&json!("ann"), &json!(["operator"]))
    );
    assert!(me["key_id"].as_str().unwrap().starts_with("jwt:"));
    let call = json!({"ref": "demo.echo", "arguments": {"message": "x"}}).to_string();
    assert_eq!(
        bridge
            .send("POST /v1/calls", &[&good("RS256")], &call)
            .await
            .status,
        200
    );
    let ping = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let both = "accept: application/json, text/event-stream";
    let greeted = bridge
        .send("POST /mcp", &[&good("ES256"), both], &ping.to_string())
        .await;
    assert_eq!(greeted.status, 200);
    // A workspace that does not exist is not there because a token names it.
    let bob = good("by workspace");
    let bob = [bob.as_str(), "x-workspace: nowhere"];
    assert_eq!(bridge.send("GET /v1/me", &bob, "").await.status, 404);
    bridge
        .post("/v1/workspaces", &json!({"workspace": "team"}))
        .await;
    let bob = [bob[0], "x-workspace: team"];
    let me = bridge.send("GET /v1/me", &bob, "").await.json();
    assert_eq!(me["roles"], json!(["admin"]));
    assert_eq!(
        bridge
            .send("GET /v1/me", &[&good("nothing")], "")
            .await
            .status,
        404
    );
    bridge.stop().await;
}

#[tokio::test]
async fn bad_tokens_are_refused_alike_and_the_issuer_is_not_stormed() {
    let issuer = FakeIssuer::start().await;
    let bridge = Bridge::start(&format!("auth: {{{}}}\n", issuer.section())).await;
    let tokens = tokens();
    let bad = tokens["bad"].as_object().unwrap().values();
    let unknown = tokens["unknown kid"]
        .as_array()
        .unwrap()
        .iter()
        .cycle()
        .take(30);
    for token in bad.chain(unknown) {
        let header = format!("authorization: Bearer {}", token.as_str().unwrap());
        for line in ["GET /v1/me", "POST /mcp"] {
            let reply = bridge.send(line, &[&header], "").await;
            assert_eq!(
                (reply.status, reply.code().as_str()),
                (401, "unauthenticated")
            );
        }
    }
    let asked = issuer.asked.load(Ordering::SeqCst);
    // One fetch in five seconds, however long this machine takes.
    assert!(asked < 30, "{asked}");
    // An issuer whose algorithm is not taken is as good as none.
    let narrow = issuer
        .section()
        .replace("audience", "algorithms: [ES256], audience");
    let other = Bridge::start(&format!("auth: {{{narrow}}}\n")).await;
    assert_eq!(
        other.send("GET /v1/me", &[&good("RS256")], "").await.status,
        401
    );
    assert_eq!(
        other.send("GET /v1/me", &[&good("ES256")], "").await.status,
        200
    );
    other.stop().await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_user_of_the_issuer_is_nobody_s_namesake() {
    let issuer = FakeIssuer::start().await;
    let bridge = Bridge::start(&format!("auth: {{{}}}\n", issuer.section())).await;
    // A user of the same name is known here, with more than the token opens.
    let own = bridge.key_of("ann", "admin").await;
    let keys = bridge
        .send("GET /v1/keys", &[&good("RS256")], "")
        .await
        .json();
    assert_eq!(keys["items"], json!([]), "{keys}");
    let wish = json!({"user": "ann"}).to_string();
    assert_eq!(
        bridge
            .send("POST /v1/keys", &[&good("RS256")], &wish)
            .await
            .status,
        403
    );
    let id = own.split('_').nth(1).unwrap();
    assert_eq!(
        bridge
            .send(&format!("DELETE /v1/keys/{id}"), &[&good("RS256")], "")
            .await
            .status,
        403
    );
    // An admin by the issuer's word manages.
    let user = json!({"user": "cem", "workspaces": []}).to_string();
    assert_eq!(
        bridge
            .send("POST /v1/users", &[&good("admin")], &user)
            .await
            .status,
        201
    );
    bridge.stop().await;
}

#[tokio::test]
async fn without_keys_tokens_are_the_only_way_in() {
    let issuer = FakeIssuer::start().await;
    let auth = format!("auth: {{keys: false, {}}}\n", issuer.section());
    let bridge = Bridge::start(&auth).await;
    assert_eq!(bridge.get("/v1/me").await.status, 401, "a key");
    assert_eq!(
        bridge.send("GET /v1/me", &["no-key: 1"], "").await.status,
        401
    );
    assert_eq!(
        bridge
            .send("GET /v1/me", &[&good("EdDSA")], "")
            .await
            .status,
        200
    );
    bridge.stop().await;
}
