//! An MCP server that wants tokens, the authorization server that gives them, and a browser.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::kit::{Bridge, Reply};

/// A sealing key of the tests.
pub(crate) const KEY: &str = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";

/// What both servers know, and what tests change.
#[derive(Default)]
pub(crate) struct Facts {
    /// Tokens the MCP server takes.
    pub(crate) good: HashSet<String>,
    /// Headers of each request to the MCP server.
    pub(crate) seen: Vec<HashMap<String, String>>,
    /// Codes, with the challenge each is bound to.
    pub(crate) codes: HashMap<String, String>,
    pub(crate) redeemed: usize,
    pub(crate) refreshes: usize,
    pub(crate) registered: usize,
    /// What the token endpoint answers to refresh tokens: `None` gives new tokens.
    pub(crate) refuses: Option<(u16, &'static str)>,
    /// `resource` as the token endpoint was told it.
    pub(crate) resources: Vec<String>,
    issued: usize,
    refresh_token: String,
    /// Where metadata leads instead of where it should.
    pub(crate) misled: HashMap<&'static str, String>,
}

#[derive(Clone)]
pub(crate) struct World {
    facts: Arc<Mutex<Facts>>,
    pub(crate) server: SocketAddr,
    pub(crate) issuer: SocketAddr,
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

impl World {
    pub(crate) async fn new() -> Self {
        let facts = Arc::<Mutex<Facts>>::default();
        // Both addresses stand in both servers' answers, so they are known before either serves.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let shared = Arc::new(Mutex::new(Self {
            facts: Arc::clone(&facts),
            server: nowhere,
            issuer: nowhere,
        }));
        let server = Router::new()
            .route("/mcp", any(mcp))
            .route("/.well-known/oauth-protected-resource/mcp", get(resource))
            .with_state(Arc::clone(&shared));
        let issuer = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/register", post(register))
            .route("/token", post(token))
            .with_state(Arc::clone(&shared));
        let (server, issuer) = (serve(server).await, serve(issuer).await);
        let world = Self {
            facts,
            server,
            issuer,
        };
        *shared.lock().unwrap() = world.clone();
        world
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.issuer)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.server)
    }

    /// The configuration of a bridge that knows the server as `up`; the key file stands in `folder`.
    pub(crate) fn yaml(&self, folder: &std::path::Path, definition: &str) -> String {
        let mut yaml = sealed(folder);
        let _ = write!(
            yaml,
            "outbound: {{allow_private: [127.0.0.1]}}\nservers:\n  up: {{transport: streamable_http, era: legacy, url: '{}', {definition}}}\n",
            self.url()
        );
        yaml
    }

    /// Every token that was ever given is good no more.
    pub(crate) fn forget_tokens(&self) {
        self.facts().good.clear();
    }

    /// What the person's browser does at the issuer: signs in, and is sent back with a code.
    pub(crate) fn sign_in(&self, authorize: &Url) -> String {
        assert!(
            authorize
                .as_str()
                .starts_with(&format!("{}/authorize?", self.issuer()))
        );
        let asked: HashMap<_, _> = authorize.query_pairs().into_owned().collect();
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(asked["resource"], self.url());
        let mut facts = self.facts();
        facts.issued += 1;
        let code = format!("CANARY-code-{}", facts.issued);
        let challenge = asked["code_challenge"].clone();
        facts.codes.insert(code.clone(), challenge);
        code
    }
}

/// `secrets:` with a key file in `folder`.
pub(crate) fn sealed(folder: &std::path::Path) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join("sealing.key");
    std::fs::write(&file, KEY).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("secrets: {{key_file: '{}'}}\n", file.display())
}

type Shared = State<Arc<Mutex<World>>>;

fn world(state: &Shared) -> World {
    state.0.lock().unwrap().clone()
}

impl Facts {
    fn led(&self, what: &'static str, else_to: String) -> String {
        self.misled.get(what).cloned().unwrap_or(else_to)
    }
}

async fn resource(state: Shared) -> Response {
    let world = world(&state);
    let issuer = world.facts().led("authorization_servers", world.issuer());
    let resource = world.facts().led("resource", world.url());
    Json(json!({"resource": resource, "authorization_servers": [issuer]})).into_response()
}

async fn metadata(state: Shared) -> Response {
    let world = world(&state);
    let facts = world.facts();
    let at = |path: &str| format!("{}{path}", world.issuer());
    Json(json!({
        "issuer": facts.led("issuer", world.issuer()),
        "authorization_endpoint": facts.led("authorization_endpoint", at("/authorize")),
        "token_endpoint": facts.led("token_endpoint", at("/token")),
        "registration_endpoint": facts.led("registration_endpoint", at("/register")),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response()
}

async fn register(state: Shared, Json(wish): Json<Value>) -> Response {
    let world = world(&state);
    world.facts().registered += 1;
    let redirect = wish["redirect_uris"][0].as_str().unwrap();
    assert!(redirect.ends_with("/v1/oauth/callback"), "{redirect}");
    (StatusCode::CREATED, Json(json!({"client_id": "bridge-1"}))).into_response()
}

async fn token(state: Shared, body: Bytes) -> Response {
    let world = world(&state);
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let refused = |status: u16, why: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        (status, Json(json!({"error": why}))).into_response()
    };
    assert_eq!(form["client_id"], "bridge-1");
    world.facts().resources.push(form["resource"].clone());
    if form["grant_type"] == "refresh_token" {
        // Long enough that all who want a token wait for the first.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let mut facts = world.facts();
        facts.refreshes += 1;
        if let Some((status, why)) = facts.refuses {
            return refused(status, why);
        }
        if form["refresh_token"] != facts.refresh_token {
            return refused(400, "invalid_grant");
        }
    } else {
        let mut facts = world.facts();
        facts.redeemed += 1;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
        if facts.codes.remove(&form["code"]) != Some(challenge) {
            return refused(400, "invalid_grant");
        }
    }
    let mut facts = world.facts();
    facts.issued += 1;
    let (access, refresh) = (
        format!("CANARY-access-{}", facts.issued),
        format!("CANARY-refresh-{}", facts.issued),
    );
    facts.good.insert(access.clone());
    facts.refresh_token.clone_from(&refresh);
    Json(json!({"access_token": access, "token_type": "Bearer", "expires_in": 3600, "refresh_token": refresh, "scope": "tools"}))
        .into_response()
}

/// A server of 2025-11-25 with one tool, for whoever shows a good token.
async fn mcp(state: Shared, headers: HeaderMap, method: http::Method, body: Bytes) -> Response {
    let world = world(&state);
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let seen = headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)));
    world.facts().seen.push(seen.collect());
    let shown = headers
        .get("authorization")
        .or_else(|| headers.get("x-key"));
    let shown = shown.map(text).unwrap_or_default();
    let token = shown.strip_prefix("Bearer ").unwrap_or(&shown);
    if !world.facts().good.contains(token) {
        let metadata = format!(
            "http://{}/.well-known/oauth-protected-resource/mcp",
            world.server
        );
        let metadata = world.facts().led("resource_metadata", metadata);
        let challenge = format!("Bearer resource_metadata=\"{metadata}\", scope=\"tools\"");
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
    }
    if method != http::Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let message: Value = serde_json::from_slice(&body).unwrap();
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "up", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "whose", "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": true}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": "ok"}]}),
        "ping" => json!({}),
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

/// As a user of the bridge.
pub(crate) async fn as_user(bridge: &Bridge, key: &str, line: &str, body: &Value) -> Reply {
    let authorization = format!("authorization: Bearer {key}");
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    bridge.send(line, &[&authorization], &body).await
}

pub(crate) async fn call(bridge: &Bridge, key: &str) -> Reply {
    as_user(
        bridge,
        key,
        "POST /v1/calls",
        &json!({"ref": "up.whose", "arguments": {}}),
    )
    .await
}

/// A browser without any credential of the bridge.
pub(crate) struct Browser<'a> {
    pub(crate) bridge: &'a Bridge,
    pub(crate) cookie: Option<String>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(bridge: &'a Bridge) -> Self {
        Self {
            bridge,
            cookie: None,
        }
    }

    /// Opens a link, agrees, and stands at the issuer's page.
    pub(crate) async fn open(&mut self, link: &str) -> Url {
        let link: Url = link.parse().unwrap();
        let path = format!("GET {}?{}", link.path(), link.query().unwrap());
        let page = self.bridge.send(&path, &["no-key:"], "").await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(page.text().contains("Grant access?"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        let form = link.query().unwrap();
        let begun = self
            .bridge
            .send("POST /v1/oauth/start", &["no-key:"], form)
            .await;
        assert_eq!(begun.status, 303, "{}", begun.text());
        let cookie = begun.header("set-cookie").unwrap();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
            "{cookie}"
        );
        self.cookie = cookie.split(';').next().map(str::to_owned);
        begun.header("location").unwrap().parse().unwrap()
    }

    /// Comes back from the issuer.
    pub(crate) async fn come_back(&self, state: &str, code: &str, iss: Option<&str>) -> Reply {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("state", state).append_pair("code", code);
        if let Some(iss) = iss {
            query.append_pair("iss", iss);
        }
        let line = format!("GET /v1/oauth/callback?{}", query.finish());
        let cookie = self
            .cookie
            .as_ref()
            .map(|cookie| format!("cookie: {cookie}"));
        let mut headers = vec!["no-key:"];
        headers.extend(cookie.as_deref());
        self.bridge.send(&line, &headers, "").await
    }
}

pub(crate) fn state_of(authorize: &Url) -> String {
    let mut pairs = authorize.query_pairs();
    pairs
        .find(|(name, _)| name == "state")
        .unwrap()
        .1
        .into_owned()
}
