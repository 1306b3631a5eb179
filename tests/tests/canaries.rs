//! Canaries: secrets put wherever one may stand, then looked for wherever none may be.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::path::{Path, PathBuf};

use axum::extract::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::grants::Grants;
use testkit::{Bridge, BridgeOptions, Upstream, eventually};

/// What is put somewhere, by where it is put.
const ENV: &str = "canary01-env-of-a-child";
const BEARER: &str = "canary02-bearer-header";
const API_HEADER: &str = "canary03-api-key-header";
const PASSWORD: &str = "canary04-argument-password";
const NESTED: &str = "canary05-nested-api-key";
const WRONG_TYPE: &str = "canary06-password-of-a-wrong-type";
const LITERAL: &str = "canary07-literal-in-a-definition";
const USERINFO: &str = "canary08-userinfo";
const URL_QUERY: &str = "canary09-query-of-a-url";
const FOREIGN_KEY: &str = "canary10-key-nobody-made";
const QUERY: &str = "canary11-query-of-a-request";
const COOKIE: &str = "canary12-cookie";

/// Everything planted besides what the bridge mints itself (an API key, an agent's token, a token that confirms a call)
/// and what an issuer gives it (tokens of a grant, one of them renewed).
const PLANTED: [&str; 12] = [
    ENV,
    BEARER,
    API_HEADER,
    PASSWORD,
    NESTED,
    WRONG_TYPE,
    LITERAL,
    USERINFO,
    URL_QUERY,
    FOREIGN_KEY,
    QUERY,
    COOKIE,
];

/// An upstream that says back whatever it was given: in errors, in bodies of errors, in messages.
async fn talkative(headers: HeaderMap, Json(message): Json<Value>) -> axum::response::Response {
    let head = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("none")
    };
    let given = format!("{} {}", head("authorization"), head("x-api-key"));
    let encoded = STANDARD.encode(head("x-api-key"));
    let id = &message["id"];
    let arguments = &message["params"]["arguments"];
    let result =
        |result: Value| Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response();
    match (
        message["method"].as_str(),
        message["params"]["name"].as_str(),
    ) {
        (Some("initialize"), _) if headers.contains_key("x-refuse") => Json(json!({
            "jsonrpc": "2.0", "id": id, "error": {"code": -32001, "message": format!("no entry with {given}")},
        }))
        .into_response(),
        (Some("initialize"), _) => result(json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": "talkative", "version": "1"},
        })),
        (Some("tools/list"), _) => {
            let tool = |name: &str| json!({
                "name": name, "annotations": {"readOnlyHint": true},
                "inputSchema": {"type": "object", "properties": {
                    "password": {"type": "string"}, "more": {"type": "object"},
                }},
            });
            result(json!({"tools": [tool("tell"), tool("fail"), tool("crash"), tool("deny")]}))
        }
        (Some("tools/call"), Some("tell")) => {
            let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {
                "level": "info", "data": {"header": given, "encoded": encoded, "arguments": arguments},
            }});
            let end = json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "told"}]}});
            let stream = format!("event: message\ndata: {log}\n\nevent: message\ndata: {end}\n\n");
            ([("content-type", "text/event-stream")], stream).into_response()
        }
        (Some("tools/call"), Some("fail")) => Json(json!({"jsonrpc": "2.0", "id": id, "error": {
            "code": -32000, "message": format!("cannot use {given} ({encoded}) with {arguments}"), "data": {"sent": given},
        }}))
        .into_response(),
        (Some("tools/call"), Some("crash")) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("stack of {given} {encoded}")).into_response()
        }
        (Some("tools/call"), Some("deny")) => {
            let challenge = format!("Bearer error=\"bad {given}\"");
            (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)], given).into_response()
        }
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

async fn serve() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().route("/mcp", post(talkative));
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/mcp")
}

fn secret(folder: &Path, value: &str) -> String {
    // Paths may be told: this one must not hold the word.
    let file = folder.join(&value[..8]);
    std::fs::write(&file, value).unwrap();
    format!("{{secret: \"file:{}\"}}", file.display())
}

fn upstreams(folder: &Path, url: &str) -> Vec<Upstream> {
    let bearer = secret(folder, BEARER).replace('}', ", prefix: \"Bearer \"}");
    vec![
        Upstream {
            name: "talkative",
            yaml: format!(
                "    transport: streamable_http\n    url: {url}\n    allow_private: true\n    isolation: shared\n    \
                 headers: {{Authorization: {bearer}, X-Api-Key: {}}}\n",
                secret(folder, API_HEADER)
            ),
        },
        Upstream {
            name: "refusing",
            yaml: format!(
                "    transport: streamable_http\n    url: {url}\n    allow_private: true\n    isolation: shared\n    \
                 headers: {{X-Refuse: \"1\", X-Api-Key: {}}}\n",
                secret(folder, API_HEADER)
            ),
        },
        Upstream {
            name: "dying",
            yaml: format!(
                "    transport: stdio\n    command: [sh, -c, \"env >&2; echo {{}} $CHILD_WORD >&2; sleep 1; exit 3\"]\n    \
                 env: {{CHILD_WORD: {}}}\n",
                secret(folder, ENV)
            ),
        },
    ]
}

struct Sweep {
    bridge: Bridge,
    minted: Vec<String>,
    /// What another principal was answered, and what anybody may read.
    answers: String,
}

/// Runs through everything that may go wrong, with canaries everywhere.
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn run(format: &str) -> Sweep {
    let folder = tempfile::tempdir().unwrap();
    let url = serve().await;
    let grants = Grants::start().await;
    let roles =
        "roles: {careful: {allow: ['*.*'], confirm: ['talkative.tell'], self_confirm: true}}";
    let extra = format!(
        "telemetry: {{log: {{format: {format}, level: debug}}}}\n{roles}\n{}",
        Grants::sections(folder.path())
    );
    let mut upstreams = upstreams(folder.path(), &url);
    upstreams.push(grants.upstream("grants"));
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams,
        extra,
        ..BridgeOptions::default()
    })
    .await;
    bridge.wait_for_ref("talkative.tell").await;
    let key = key(&bridge, "bob", "operator").await;
    let agent = bridge
        .send(
            "POST",
            "/v1/agents/tokens",
            Some(json!({"agent_id": "agent-1"})),
        )
        .await
        .json();
    let token = agent["token"].as_str().unwrap().to_owned();
    let bob = [("authorization", format!("Bearer {key}"))];
    let bob: Vec<(&str, &str)> = bob
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    granted(&bridge, &grants, &bob).await;
    let confirm = confirmed(&bridge).await;
    calls(&bridge, &bob).await;
    let told = refusals(&bridge, &url).await;
    let mut answers = told;
    for path in [
        "/v1/catalog",
        "/v1/servers",
        "/v1/sessions",
        "/v1/calls",
        "/v1/audit",
        "/v1/audit?format=ndjson",
        "/v1/events/history?limit=500",
        "/v1/approvals",
        "/v1/credentials",
        "/v1/me",
    ] {
        for who in [&bob[..], &[]] {
            answers += &bridge
                .send_with(&format!("GET {path}"), who, None)
                .await
                .text();
        }
    }
    for session in bridge.get("/v1/sessions").await["items"]
        .as_array()
        .unwrap()
    {
        let path = format!("/v1/sessions/{}", session["session_id"].as_str().unwrap());
        answers += &bridge.send("GET", &path, None).await.text();
    }
    answers += &bridge.send("GET", "/metrics", None).await.text();
    let secret = key.rsplit('_').next().unwrap().to_owned();
    let mut minted = grants.given();
    assert_eq!(minted.len(), 4, "a grant, and one that was renewed");
    minted.extend([secret, token, confirm]);
    Sweep {
        bridge,
        minted,
        answers,
    }
}

/// A key of a new user's.
async fn key(bridge: &Bridge, user: &str, role: &str) -> String {
    let wish = json!({"user": user, "workspaces": [{"workspace": "default", "roles": [role]}]});
    let made = bridge.send("POST", "/v1/users", Some(wish)).await;
    assert!(made.status.is_success(), "{}", made.text());
    let made = bridge.send("POST", "/v1/keys", Some(json!({"user": user})));
    made.await.json()["key"].as_str().unwrap().to_owned()
}

/// Bob grants access to a server that tells whatever token it ever saw, and the grant is renewed.
async fn granted(bridge: &Bridge, grants: &Grants, bob: &[(&str, &str)]) {
    let call = async |tool: &str| {
        let body = json!({"ref": format!("grants.{tool}"), "arguments": {}});
        bridge.send_with("POST /v1/calls", bob, Some(body)).await
    };
    let refused = call("tell").await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    let link = refused.json()["link"].as_str().unwrap().to_owned();
    grants.grant(bridge, &link).await;
    eventually("a call with the grant", || async {
        (call("tell").await.status == 200).then_some(())
    })
    .await;
    let failed = async |tool: &str| {
        let reply = call(tool).await;
        assert!(!reply.status.is_success(), "{tool}: {}", reply.text());
        for token in grants.given() {
            assert!(!reply.text().contains(&token), "{tool}: {}", reply.text());
        }
        reply
    };
    let told = failed("fail").await;
    assert!(told.text().contains("[redacted]"), "{}", told.text());
    failed("crash").await;
    grants.end_access();
    eventually("a call with the renewed grant", || async {
        (call("tell").await.status == 200).then_some(())
    })
    .await;
    failed("fail").await;
    failed("crash").await;
}

/// A call that must be confirmed, with a token that is right, used up, and held against another call.
async fn confirmed(bridge: &Bridge) -> String {
    let bearer = format!("Bearer {}", key(bridge, "carl", "careful").await);
    let call = async |arguments: Value, token: Option<&str>| {
        let body = json!({"ref": "talkative.tell", "arguments": arguments, "confirm_token": token});
        let headers = [("authorization", bearer.as_str())];
        bridge
            .send_with("POST /v1/calls", &headers, Some(body))
            .await
    };
    let asked = call(json!({}), None).await;
    assert_eq!(asked.status, 428, "{}", asked.text());
    let asked = asked.json();
    let token = asked["approval"]["confirm_token"].as_str().unwrap();
    for (arguments, status) in [
        (json!({"more": {}}), 403),
        (json!({}), 200),
        (json!({}), 403),
    ] {
        let reply = call(arguments, Some(token)).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(!reply.text().contains(token), "{}", reply.text());
    }
    token.to_owned()
}

/// Calls by bob that succeed, fail, crash and are refused.
async fn calls(bridge: &Bridge, bob: &[(&str, &str)]) {
    let arguments = json!({"password": PASSWORD, "more": {"inner": [{"api_key": NESTED}]}});
    for tool in ["tell", "fail", "crash", "deny", "nothing"] {
        let body = json!({"ref": format!("talkative.{tool}"), "arguments": arguments});
        let reply = bridge.send_with("POST /v1/calls", bob, Some(body)).await;
        let works = tool == "tell";
        assert_eq!(reply.status == 200, works, "{tool}: {}", reply.text());
        let keyed = json!({"ref": format!("talkative.{tool}"), "arguments": arguments});
        let mut headers = bob.to_vec();
        headers.extend([("idempotency-key", tool), ("prefer", "respond-async")]);
        bridge
            .send_with("POST /v1/calls", &headers, Some(keyed))
            .await;
    }
    let wrong = json!({"ref": "talkative.tell", "arguments": {"password": {"inner": WRONG_TYPE}}});
    let reply = bridge.send_with("POST /v1/calls", bob, Some(wrong)).await;
    assert_eq!(reply.status, 422, "{}", reply.text());
    assert!(!reply.text().contains(WRONG_TYPE), "{}", reply.text());
    // The dying server's last words are told by what wants it.
    let dead = bridge
        .send("POST", "/v1/sessions", Some(json!({"server": "dying"})))
        .await;
    assert!(!dead.status.is_success(), "{}", dead.text());
    assert!(
        dead.text().contains("[redacted]"),
        "its words are shown, without the secret: {}",
        dead.text()
    );
    let refused = bridge
        .send("POST", "/v1/sessions", Some(json!({"server": "refusing"})))
        .await;
    assert!(!refused.status.is_success(), "{}", refused.text());
    eventually("the last call has ended", || async {
        let page = bridge.get("/v1/calls?limit=500").await;
        let items = page["items"].as_array()?.clone();
        items
            .iter()
            .all(|call| call["ended_at"].is_string())
            .then_some(())
    })
    .await;
}

/// Requests that are refused for what they hold; what was answered.
async fn refusals(bridge: &Bridge, url: &str) -> String {
    let literal = json!({"name": "l", "definition": {
        "transport": "streamable_http", "url": url, "headers": {"Authorization": format!("Bearer {LITERAL}")},
    }});
    let in_url = url.replace("http://", &format!("http://user:{USERINFO}@"));
    let in_url = format!("{in_url}?api_key={URL_QUERY}");
    let address =
        json!({"name": "u", "definition": {"transport": "streamable_http", "url": in_url}});
    let mut answers = String::new();
    for body in [literal, address] {
        let reply = bridge.send("POST", "/v1/servers", Some(body)).await;
        assert!(reply.status.is_client_error(), "{}", reply.text());
        answers += &reply.text();
    }
    let foreign = format!("Bearer pb_0123456789abcdef_{FOREIGN_KEY}");
    let refused = bridge
        .send_with("GET /v1/me", &[("authorization", &foreign)], None)
        .await;
    assert_eq!(refused.status, 401);
    answers += &refused.text();
    let path = format!("GET /v1/catalog?token={QUERY}");
    let odd = bridge
        .send_with(&path, &[("cookie", &format!("session={COOKIE}"))], None)
        .await;
    answers + &odd.text()
}

/// Every file below a directory.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// The command lines of all processes of this machine that can be read, but this test's own.
fn command_lines() -> Vec<String> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}

fn holds(bytes: &[u8], canary: &str) -> bool {
    bytes
        .windows(canary.len())
        .any(|some| some == canary.as_bytes())
}

async fn sweep(format: &str) {
    let swept = run(format).await;
    let bridge = &swept.bridge;
    let canaries: Vec<&str> = PLANTED
        .into_iter()
        .chain(swept.minted.iter().map(String::as_str))
        .collect();
    let encoded: Vec<String> = canaries
        .iter()
        .map(|canary| STANDARD.encode(canary))
        .collect();
    let lines = command_lines();
    let mut hits = Vec::new();
    let store = files(&bridge.home().join("data"));
    assert!(
        store.iter().any(|file| file.ends_with("bridge.db")),
        "{store:?}"
    );
    let log = bridge.log();
    assert!(log.lines().count() > 5, "nothing is logged: {log}");
    for canary in canaries
        .into_iter()
        .chain(encoded.iter().map(String::as_str))
    {
        for file in &store {
            if holds(&std::fs::read(file).unwrap(), canary) {
                hits.push(format!("{canary} in {}", file.display()));
            }
        }
        for (place, text) in [("the log", &log), ("an answer", &swept.answers)] {
            if let Some(at) = text.find(canary) {
                let from = at.saturating_sub(160);
                let around = text.get(from..at).unwrap_or_default();
                hits.push(format!("{canary} in {place}, after: {around}"));
            }
        }
        for line in lines.iter().filter(|line| line.contains(canary)) {
            hits.push(format!("{canary} on a command line: {line}"));
        }
    }
    assert!(hits.is_empty(), "{}", hits.join("\n"));
}

#[tokio::test]
async fn no_secret_is_found_anywhere_with_a_log_for_people() {
    sweep("text").await;
}

#[tokio::test]
async fn no_secret_is_found_anywhere_with_a_log_for_programs() {
    sweep("json").await;
}
