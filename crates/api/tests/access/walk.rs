//! Every route of the daemon's own document, every verb, every spelling, every bad credential: nobody comes in, and
//! nothing happens behind the door.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::issuer::{FakeIssuer, tokens};
use crate::kit::{Bridge, demo, eventually};

const VERBS: [&str; 8] = [
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "TRACE", "FOO",
];
/// Verbs tried in other spellings: where a path leads does not depend on the rest.
const SPELT: [&str; 2] = ["GET", "POST"];
/// Routes the document does not hold: their bodies are JSON-RPC.
const MCP: [&str; 5] = ["/mcp", "/mcp/demo", "/sse", "/sse/demo", "/message"];

/// A listener that counts who knocks.
async fn sentinel() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, hits)
}

/// Paths of the document, with ids filled in.
async fn paths(bridge: &Bridge) -> Vec<String> {
    let document = bridge.get("/openapi.json").await.json();
    let of_document = document["paths"].as_object().unwrap().keys().map(|path| {
        let parts = path.split('/');
        let filled = parts.map(|part| if part.starts_with('{') { "demo" } else { part });
        filled.collect::<Vec<_>>().join("/")
    });
    of_document.chain(MCP.map(str::to_owned)).collect()
}

fn spellings(path: &str) -> Vec<String> {
    vec![
        format!("/{path}"),
        path.replacen('/', "/./", 1),
        path.replacen("/v1/", "/v1/./", 1),
        format!("{path}/"),
        path.to_ascii_uppercase(),
        path.replacen("/v1/", "/v1%2f", 1),
        path.replacen("/v1/", "/healthz/../v1/", 1),
        format!("{path}%00"),
        format!("{path};x=1"),
    ]
}

async fn bad_credentials(bridge: &Bridge) -> Vec<Vec<String>> {
    let bearer = |token: &str| vec![format!("authorization: Bearer {token}")];
    let revoked = bridge.key_of("gone", "admin").await;
    let id = revoked.split('_').nth(1).unwrap();
    let ended = bridge.send(&format!("DELETE /v1/keys/{id}"), &[], "").await;
    assert_eq!(ended.status, 204);
    let wish = json!({"user": "gone", "expires_in_s": 1});
    let expired = bridge.post("/v1/keys", &wish).await.json();
    let expired = expired["key"].as_str().unwrap().to_owned();
    eventually("the key expires", || async {
        let header = format!("authorization: Bearer {expired}");
        let reply = bridge.send("GET /v1/me", &[&header], "").await;
        (reply.status == 401).then_some(())
    })
    .await;
    let (head, secret) = bridge.key.rsplit_once('_').unwrap();
    let flipped = if secret.starts_with('0') { "1" } else { "0" };
    let wrong = format!("{head}_{flipped}{}", &secret[1..]);
    let tokens = tokens();
    let token = |name: &str| tokens["bad"][name].as_str().unwrap().to_owned();
    vec![
        vec!["no-key: 1".to_owned()],
        bearer("junk"),
        bearer("pb_0000000000000000_0000"),
        bearer(&wrong),
        bearer(&expired),
        bearer(&revoked),
        bearer(&token("another audience")),
        bearer(&token("unsigned")),
        vec![format!("authorization: Basic {}", bridge.key)],
        vec![format!("authorization: {}", bridge.key)],
        vec!["authorization: Bearer".to_owned()],
        [bearer(&bridge.key), bearer(&bridge.key)].concat(),
        vec![
            "no-key: 1".to_owned(),
            format!("cookie: paperbot_login={}", bridge.key),
        ],
        vec!["no-key: 1".to_owned(), format!("x-api-key: {}", bridge.key)],
    ]
}

fn is_open(verb: &str, path: &str) -> bool {
    matches!(verb, "GET" | "HEAD") && api::front::OPEN_ROUTES.contains(&path)
        || api::front::OWN_CREDENTIAL.contains(&(verb, path))
}

#[tokio::test]
async fn nobody_comes_in_by_any_route_verb_spelling_or_bad_credential_and_nothing_happens() {
    let issuer = FakeIssuer::start().await;
    let (url, hits) = sentinel().await;
    let yaml = format!(
        "auth: {{{}}}\n{}  web: {{transport: streamable_http, url: '{url}', allow_private: true}}\n",
        issuer.section(),
        demo()
    );
    let bridge = Bridge::start(&yaml).await;
    let bad = bad_credentials(&bridge).await;
    let before = bridge.get("/v1/audit?limit=500").await.json()["items"].clone();
    let mut tried = 0;
    for path in paths(&bridge).await {
        tried += walk(&bridge, &path, &bad).await;
    }
    assert!(tried > 5_000, "{tried}");
    assert_eq!(hits.load(Ordering::SeqCst), 0, "no server was reached");
    let after = bridge.get("/v1/audit?limit=500").await.json()["items"].clone();
    assert_eq!(after, before, "no row was written");
    for empty in ["/v1/sessions", "/v1/calls"] {
        assert_eq!(
            bridge.get(empty).await.json()["items"],
            json!([]),
            "{empty}"
        );
    }
    let events = bridge
        .get("/v1/events/history?after=0&types=session_opened,tool_status")
        .await;
    assert_eq!(
        events.json()["items"],
        Value::Array(Vec::new()),
        "nothing was started"
    );
    bridge.stop().await;
}

/// One path by every verb with every bad credential, and in every other spelling.
async fn walk(bridge: &Bridge, path: &str, bad: &[Vec<String>]) -> usize {
    let body = json!({"ref": "demo.echo", "arguments": {"message": "x"}, "user": "gone", "workspaces": []});
    let body = body.to_string();
    let mut tried = 0;
    for verb in VERBS {
        for credential in bad {
            let headers: Vec<&str> = credential.iter().map(String::as_str).collect();
            // Such a route looks for its credential elsewhere, or for none.
            let without = headers
                .iter()
                .all(|header| !header.starts_with("authorization"));
            // Who looks whether the bridge lives is told so by whatever credential.
            let watched = api::front::OPEN_ROUTES.contains(&path);
            if is_open(verb, path) && (without || watched) {
                continue;
            }
            let reply = bridge
                .send(&format!("{verb} {path}"), &headers, &body)
                .await;
            assert_eq!(
                reply.status,
                401,
                "{verb} {path} {headers:?} {}",
                reply.text()
            );
            tried += 1;
        }
        if SPELT.contains(&verb) {
            tried += respell(bridge, (verb, path), &body).await;
        }
    }
    // A key in the address is no credential.
    if !is_open("GET", path) {
        let query = format!("GET {path}?access_token={0}&key={0}", bridge.key);
        let reply = bridge.send(&query, &["no-key: 1"], "").await;
        assert_eq!(reply.status, 401, "{path}");
    }
    tried
}

/// One verb and path in every other spelling.
async fn respell(bridge: &Bridge, (verb, path): (&str, &str), body: &str) -> usize {
    let mut tried = 0;
    for spelling in spellings(path).into_iter().filter(|other| *other != path) {
        for headers in [["no-key: 1"], ["authorization: Bearer junk"]] {
            let line = format!("{verb} {spelling}");
            let reply = bridge.send(&line, &headers, body).await;
            // HTTP itself refuses some of them, without a body.
            let unreadable = reply.status == 400 && reply.body.is_empty();
            let refused = matches!(reply.status, 401 | 403) || unreadable;
            assert!(refused, "{line} {}", reply.status);
            tried += 1;
        }
    }
    tried
}
