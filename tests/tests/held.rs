//! Calls that wait for an approval, through the real daemon: the credential they came by is looked at again when they
//! are approved. One that ended meanwhile opens nothing, whatever kind it was.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use testkit::upstreams::{Upstream, built};
use testkit::{Bridge, BridgeOptions, Reply, eventually};

/// A token is taken for so long after its end (`docs/access.md`).
const LEEWAY: Duration = Duration::from_secs(30);
/// How long a token is still good that is to end during the test: the shortest that a machine is quick enough for.
const LIVES: [Duration; 3] = [
    Duration::from_secs(6),
    Duration::from_secs(20),
    Duration::from_secs(50),
];

/// An issuer of one key.
struct Issuer {
    key: Ed25519KeyPair,
    url: String,
}

fn base64(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

impl Issuer {
    async fn start() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
        let point = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": point}]});
        let told = move || async move { axum::Json(keys) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let app = axum::Router::new().route("/keys", axum::routing::get(told));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { key, url }
    }

    /// A token of ann's that the bridge takes for so long.
    fn token(&self, good_for: Duration) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let exp = (now + good_for).checked_sub(LEEWAY).unwrap().as_secs();
        let head = base64(&json!({"alg": "EdDSA", "kid": "one"}));
        let claims = base64(&json!({
            "iss": "https://id.test", "aud": "bridge", "sub": "ann", "exp": exp,
            "workspaces": ["default"], "roles": ["operator"],
        }));
        let signed = format!("{head}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// A daemon over a server whose effects are counted; whatever may act must be approved by another person.
struct Rig {
    bridge: Bridge,
    issuer: Issuer,
    /// An approver's key.
    eve: String,
    effects: PathBuf,
    _folder: tempfile::TempDir,
}

/// The head of a request by whom it is.
type Head = Vec<(&'static str, String)>;

fn bearer(token: &str) -> Head {
    vec![("authorization", format!("Bearer {token}"))]
}

impl Rig {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let effects = folder.path().join("effects");
        let command = json!([built("chaos-server"), effects.to_str().unwrap()]);
        let issuer = Issuer::start().await;
        let jwt = format!(
            "{{issuer: 'https://id.test', audience: bridge, jwks_url: '{}', algorithms: [EdDSA]}}",
            issuer.url
        );
        let roles = "roles: {operator: {allow: ['*.*'], confirm: not_read_only}}";
        let bridge = Bridge::start_with(BridgeOptions {
            upstreams: vec![Upstream {
                name: "bank",
                yaml: format!(
                    "    transport: stdio\n    command: {command}\n    isolation: shared\n"
                ),
            }],
            extra: format!("auth: {{jwt: {jwt}}}\n{roles}\n"),
            ..BridgeOptions::default()
        })
        .await;
        bridge.wait_for_ref("bank.quick").await;
        let (_, eve) = key(&bridge, "eve", "approver").await;
        Self {
            bridge,
            issuer,
            eve,
            effects,
            _folder: folder,
        }
    }

    async fn send(&self, line: &str, head: &Head, body: Option<Value>) -> Reply {
        let head: Vec<_> = head
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.bridge.send_bare(line, &head, body).await
    }

    /// Asks for a call that is held under this key; `None`: the credential is over already.
    async fn hold(&self, head: &Head, key: &str) -> Option<Value> {
        let mut head = head.clone();
        head.push(("prefer", "respond-async".to_owned()));
        head.push(("idempotency-key", key.to_owned()));
        let body = json!({"ref": "bank.quick", "arguments": {"line": key}});
        let reply = self.send("POST /v1/calls", &head, Some(body)).await;
        if reply.status == 401 {
            return None;
        }
        assert_eq!(reply.status, 202, "{}", reply.text());
        let told = reply.json();
        assert_eq!(told["state"], "awaiting_approval", "{told}");
        Some(told)
    }

    /// Approves a held call; how it ended, as somebody reads it who may.
    async fn approve(&self, held: &Value, reader: &Head) -> Value {
        let line = format!(
            "POST /v1/approvals/{}",
            held["approval"]["id"].as_str().unwrap()
        );
        let yes = Some(json!({"decision": "approve"}));
        let decided = self.send(&line, &bearer(&self.eve), yes).await;
        assert_eq!(decided.status, 200, "{}", decided.text());
        let call = held["call_id"].as_str().unwrap();
        let line = format!("GET /v1/calls/{call}?wait_ms=20000");
        self.send(&line, reader, None).await.json()
    }

    /// The call was refused for its credential, nothing of it was sent, and its key is free.
    async fn refused(&self, held: &Value, key: &str, reader: &Head) {
        let end = self.approve(held, reader).await;
        let error = &end["error"];
        assert_eq!(
            (&end["state"], &error["code"], &error["executed"]),
            (&json!("failed"), &json!("unauthenticated"), &json!("no")),
            "{end}"
        );
        assert_eq!(self.lines(), Vec::<String>::new());
        let anew = self.hold(reader, key).await.unwrap();
        assert_ne!(anew["call_id"], held["call_id"], "its key is free");
    }

    fn lines(&self) -> Vec<String> {
        let read = std::fs::read_to_string(&self.effects).unwrap_or_default();
        read.lines().map(str::to_owned).collect()
    }

    /// A browser signs in: the head of what its page sends. `None`: the credential is over already.
    async fn sign_in(&self, key: &str) -> Option<Head> {
        let body = Some(json!({"key": key}));
        let reply = self.send("POST /v1/login", &Vec::new(), body).await;
        if reply.status == 401 {
            return None;
        }
        assert_eq!(reply.status, 200, "{}", reply.text());
        let cookie = reply.headers["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let word = reply.json()["csrf_token"].as_str().unwrap().to_owned();
        Some(vec![("cookie", cookie), ("x-csrf-token", word)])
    }

    async fn until_over(&self, head: &Head) {
        eventually("the credential is over", || async {
            let me = self.send("GET /v1/me", head, None).await;
            (me.status == 401).then_some(())
        })
        .await;
    }
}

/// A new key of a user's: its id and the key.
async fn key(bridge: &Bridge, user: &str, role: &str) -> (String, String) {
    let wish = json!({"user": user, "workspaces": [{"workspace": "default", "roles": [role]}]});
    let made = bridge.send("POST", "/v1/users", Some(wish)).await;
    assert!(made.status.is_success(), "{}", made.text());
    let made = bridge
        .send("POST", "/v1/keys", Some(json!({"user": user})))
        .await
        .json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("key_id"), text("key"))
}

#[tokio::test]
async fn a_held_call_of_a_login_that_ended_is_not_sent() {
    let rig = Rig::start().await;
    let (_, stays) = key(&rig.bridge, "ann", "operator").await;
    let (goes_id, goes) = key(&rig.bridge, "ann", "operator").await;
    let reader = bearer(&stays);
    // Signed out.
    let browser = rig.sign_in(&stays).await.unwrap();
    let held = rig.hold(&browser, "left").await.unwrap();
    let left = rig.send("POST /v1/logout", &browser, None).await;
    assert_eq!(left.status, 204);
    rig.refused(&held, "left", &reader).await;
    // The key it was begun with is revoked.
    let browser = rig.sign_in(&goes).await.unwrap();
    let held = rig.hold(&browser, "revoked").await.unwrap();
    let line = format!("/v1/keys/{goes_id}");
    let revoked = rig.bridge.send("DELETE", &line, None).await;
    assert_eq!(revoked.status, 204);
    rig.refused(&held, "revoked", &reader).await;
    // One that is still good opens the call.
    let browser = rig.sign_in(&stays).await.unwrap();
    let held = rig.hold(&browser, "good").await.unwrap();
    let end = rig.approve(&held, &reader).await;
    assert_eq!(end["state"], "succeeded", "{end}");
    assert_eq!(rig.lines(), ["good"]);
}

#[tokio::test]
async fn a_held_call_of_a_token_that_is_over_is_not_sent() {
    let rig = Rig::start().await;
    let reader = bearer(&rig.issuer.token(Duration::from_hours(1)));
    let mut lives = LIVES.into_iter();
    let (token, browser, by_token, by_login) = loop {
        let token = rig.issuer.token(lives.next().unwrap());
        let Some(browser) = rig.sign_in(&token).await else {
            continue;
        };
        let token = bearer(&token);
        let by_token = rig.hold(&token, "token").await;
        let by_login = rig.hold(&browser, "login").await;
        if let (Some(by_token), Some(by_login)) = (by_token, by_login) {
            break (token, browser, by_token, by_login);
        }
    };
    rig.until_over(&token).await;
    rig.until_over(&browser).await;
    rig.refused(&by_token, "token", &reader).await;
    rig.refused(&by_login, "login", &reader).await;
    // One that is still good opens the call.
    let held = rig.hold(&reader, "good").await.unwrap();
    let end = rig.approve(&held, &reader).await;
    assert_eq!(end["state"], "succeeded", "{end}");
    assert_eq!(rig.lines(), ["good"]);
}
