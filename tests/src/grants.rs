//! An MCP server that wants tokens of an issuer, the issuer, and the browser of whoever grants them.
//!
//! The server tells whatever it was shown, and every token it ever heard of, in all the ways a server has: what a
//! bridge passes on of that is for the test to look at.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes as Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::request;
use crate::upstreams::Upstream;
use crate::{Bridge, Reply};

/// A sealing key of the tests.
const SEALING_KEY: &str = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";

/// What both servers know.
#[derive(Debug, Default)]
struct Facts {
    /// The one access token that is good.
    good: Option<String>,
    /// Every token that was ever given.
    given: Vec<String>,
}

/// The server and its issuer, on loopback; they end with the test.
#[derive(Debug, Clone)]
pub struct Grants {
    facts: Arc<Mutex<Facts>>,
    server: SocketAddr,
    issuer: SocketAddr,
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let address = listener
        .local_addr()
        .unwrap_or_else(|error| panic!("{error}"));
    (listener, address)
}

impl Grants {
    /// Starts both.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let ((at_server, server), (at_issuer, issuer)) = (listener().await, listener().await);
        let world = Self {
            facts: Arc::default(),
            server,
            issuer,
        };
        let resource = "/.well-known/oauth-protected-resource/mcp";
        let router = Router::new()
            .route("/mcp", any(mcp))
            .route(resource, get(resource_metadata))
            .with_state(world.clone());
        tokio::spawn(async move { axum::serve(at_server, router).await });
        let router = Router::new()
            .route(
                "/.well-known/oauth-authorization-server",
                get(issuer_metadata),
            )
            .route("/register", post(register))
            .route("/token", post(token))
            .with_state(world.clone());
        tokio::spawn(async move { axum::serve(at_issuer, router).await });
        world
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.issuer)
    }

    /// The server as the bridge's file names it.
    #[must_use]
    pub fn upstream(&self, name: &'static str) -> Upstream {
        let url = format!("http://{}/mcp", self.server);
        let rest = "allow_private: true\n    era: legacy\n    auth: {oauth: {}}";
        Upstream {
            name,
            yaml: format!("    transport: streamable_http\n    url: {url}\n    {rest}\n"),
        }
    }

    /// What the file needs besides: a sealing key in `folder`, and that the bridge may reach the issuer.
    ///
    /// # Panics
    /// When the key cannot be written.
    #[must_use]
    pub fn sections(folder: &Path) -> String {
        let file = folder.join("sealing.key");
        std::fs::write(&file, SEALING_KEY).unwrap_or_else(|error| panic!("{error}"));
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&file, private).unwrap_or_else(|error| panic!("{error}"));
        let file = file.display();
        format!(
            "outbound: {{allow_private: [127.0.0.1]}}\nsecrets: {{key_file: {file}}}\npublic_url: http://127.0.0.1\n"
        )
    }

    /// Every token that was ever given, access and refresh.
    #[must_use]
    pub fn given(&self) -> Vec<String> {
        self.facts().given.clone()
    }

    /// The present access token is good no more; the bridge has to ask for another.
    pub fn end_access(&self) {
        self.facts().good = None;
    }

    /// Grants access as a person does: follows a link, agrees, signs in, comes back.
    ///
    /// # Panics
    /// When a step is refused.
    pub async fn grant(&self, bridge: &Bridge, link: &str) {
        let (_, form) = link
            .split_once('?')
            .unwrap_or_else(|| panic!("{link} has no ticket"));
        let begun = browse(bridge, "POST /v1/oauth/start", "", form).await;
        assert_eq!(begun.status, 303, "{}", begun.text());
        let header = |name: &str| {
            let value = begun
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let location = header("location");
        let state = location
            .split(['?', '&'])
            .find_map(|pair| pair.strip_prefix("state="))
            .unwrap_or_else(|| panic!("no state in {location}"));
        let iss = self.issuer().replace(':', "%3A").replace('/', "%2F");
        let way_back = format!("GET /v1/oauth/callback?state={state}&code=granted&iss={iss}");
        let cookie = header("set-cookie");
        let cookie = cookie.split(';').next().unwrap_or_default();
        let back = browse(bridge, &way_back, cookie, "").await;
        assert_eq!(back.status, 200, "{}", back.text());
    }

    /// All that the server could say of secrets, once plain and once encoded.
    fn gossip(&self, shown: &str) -> String {
        let mut words = format!("shown {shown} {}", STANDARD.encode(shown));
        for token in &self.facts().given {
            let _ = write!(words, " heard of {token} {}", STANDARD.encode(token));
        }
        words
    }
}

/// A browser without any credential of the bridge.
async fn browse(bridge: &Bridge, line: &str, cookie: &str, form: &str) -> Reply {
    let (method, path) = line.split_once(' ').unwrap_or(("GET", line));
    let built = Request::builder()
        .method(method)
        .uri(path)
        .header("host", &bridge.authority)
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form.to_owned())));
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    request(&bridge.authority, built).await
}

async fn resource_metadata(State(world): State<Grants>) -> Response {
    let resource = format!("http://{}/mcp", world.server);
    Json(json!({"resource": resource, "authorization_servers": [world.issuer()]})).into_response()
}

async fn issuer_metadata(State(world): State<Grants>) -> Response {
    let at = |path: &str| format!("{}{path}", world.issuer());
    Json(json!({
        "issuer": world.issuer(),
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "registration_endpoint": at("/register"),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response()
}

async fn register() -> Response {
    (StatusCode::CREATED, Json(json!({"client_id": "bridge-1"}))).into_response()
}

async fn token(State(world): State<Grants>) -> Response {
    let mut facts = world.facts();
    let number = facts.given.len() / 2 + 1;
    let access = format!("canary-access-{number}-of-a-grant");
    let refresh = format!("canary-refresh-{number}-of-a-grant");
    facts.given.extend([access.clone(), refresh.clone()]);
    facts.good = Some(access.clone());
    Json(json!({
        "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600,
        "scope": "tools",
    }))
    .into_response()
}

/// A server of 2025-11-25 for whoever shows the good token: `tell` says all it knows in messages, `fail` in an error.
async fn mcp(
    State(world): State<Grants>,
    headers: HeaderMap,
    method: http::Method,
    body: Body,
) -> Response {
    let shown = headers.get("authorization");
    let shown = shown
        .and_then(|value| value.to_str().ok())
        .unwrap_or("none");
    let token = shown.strip_prefix("Bearer ").unwrap_or(shown);
    let gossip = world.gossip(token);
    if world.facts().good.as_deref() != Some(token) {
        let metadata = format!(
            "http://{}/.well-known/oauth-protected-resource/mcp",
            world.server
        );
        let challenge = format!("Bearer resource_metadata=\"{metadata}\", error=\"{gossip}\"");
        let head = [("www-authenticate", challenge)];
        return (StatusCode::UNAUTHORIZED, head, gossip).into_response();
    }
    if method != http::Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = &message["id"];
    let result =
        |result: Value| Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response();
    let name = message["params"]["name"].as_str();
    match (message["method"].as_str(), name) {
        (Some("initialize"), _) => result(json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": "grants", "version": "1"},
        })),
        (Some("tools/list"), _) => {
            let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}});
            result(json!({"tools": [tool("tell"), tool("fail"), tool("crash")]}))
        }
        (Some("tools/call"), Some("tell")) => {
            let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": gossip}});
            let end = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "told"}]}});
            let stream = format!("event: message\ndata: {log}\n\nevent: message\ndata: {end}\n\n");
            ([("content-type", "text/event-stream")], stream).into_response()
        }
        (Some("tools/call"), Some("fail")) => {
            let error = json!({"code": -32000, "message": gossip, "data": {"sent": gossip}});
            Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response()
        }
        (Some("tools/call"), _) => (StatusCode::INTERNAL_SERVER_ERROR, gossip).into_response(),
        (Some("ping"), _) => result(json!({})),
        _ => StatusCode::ACCEPTED.into_response(),
    }
}
