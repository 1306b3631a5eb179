//! Nobody comes in without a credential, and nobody learns anything by trying.

mod kit;

use kit::Bridge;
use serde_json::{Value, json};

/// Every (verb, path) of the contract, with ids filled in.
#[expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends by panicking"
)]
fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&api::routes::all().1.to_json().unwrap()).unwrap();
    let mut operations = Vec::new();
    for path in document["paths"].as_object().unwrap().keys() {
        let filled = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part });
        let filled = filled.collect::<Vec<_>>().join("/");
        for verb in ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"] {
            operations.push((verb.to_owned(), filled.clone()));
        }
    }
    operations
}

fn is_open(verb: &str, path: &str) -> bool {
    matches!(verb, "GET" | "HEAD") && api::front::OPEN_ROUTES.contains(&path)
        || api::front::OWN_CREDENTIAL.contains(&(verb, path))
}

#[tokio::test]
async fn every_route_and_verb_wants_a_credential_that_is_good() {
    let bridge = Bridge::start("").await;
    let revoked = bridge.key_of("gone", "operator").await;
    let id = revoked.split('_').nth(1).unwrap().to_owned();
    let used = bridge
        .send(
            "GET /v1/me",
            &[&format!("authorization: Bearer {revoked}")],
            "",
        )
        .await;
    assert_eq!(used.status, 200);
    assert_eq!(
        bridge
            .send(&format!("DELETE /v1/keys/{id}"), &[], "")
            .await
            .status,
        204
    );

    let bad = [
        "no-key: 1".to_owned(),
        "authorization: Bearer junk".to_owned(),
        "authorization: Bearer pb_0000000000000000_0000".to_owned(),
        format!("authorization: Bearer {revoked}"),
        format!("authorization: Basic {}", bridge.key),
        "authorization: Bearer".to_owned(),
    ];
    let mut tried = 0;
    for (verb, path) in operations() {
        for header in &bad {
            // An open route stays open; whoever shows a wrong credential where another is wanted is refused.
            let watched = api::front::OPEN_ROUTES.contains(&path.as_str());
            if is_open(&verb, &path) && (watched || header.starts_with("no-key")) {
                continue;
            }
            let reply = bridge.send(&format!("{verb} {path}"), &[header], "").await;
            assert_eq!(reply.status, 401, "{verb} {path} {header}");
            if verb != "HEAD" {
                assert_eq!(reply.code(), "unauthenticated", "{verb} {path}");
            }
            assert_eq!(reply.header("www-authenticate").as_deref(), Some("Bearer"));
            tried += 1;
        }
    }
    assert!(tried > 500, "{tried}");
    bridge.stop().await;
}

#[tokio::test]
async fn other_spellings_of_a_path_open_nothing() {
    let bridge = Bridge::start("").await;
    for path in [
        "//v1/me",
        "/v1//me",
        "/v1/./me",
        "/v1/me/",
        "/V1/ME",
        "/v1%2fme",
        "/healthz/",
        "//healthz",
        "/healthz/../v1/me",
        "/healthz%00",
        "/",
        "/nowhere",
        "/v1",
        "/.well-known/x",
        "/api/register",
    ] {
        let bare = bridge
            .send(&format!("GET {path}"), &["no-key: 1"], "")
            .await;
        assert_eq!(bare.status, 401, "{path}");
        let known = bridge.get(path).await;
        assert_eq!(
            (known.status, known.code().as_str()),
            (404, "resource_not_found"),
            "{path}"
        );
    }
    bridge.stop().await;
}

#[tokio::test]
async fn open_routes_tell_no_ids_and_details_need_a_credential() {
    let bridge = Bridge::start("").await;
    for path in api::front::OPEN_ROUTES {
        let reply = bridge
            .send(&format!("GET {path}"), &["no-key: 1"], "")
            .await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.json().get("detail").is_none(), "{}", reply.text());
        let wrong = ["authorization: Bearer junk"];
        let reply = bridge.send(&format!("GET {path}"), &wrong, "").await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.json().get("detail").is_none(), "{}", reply.text());
    }
    let told = bridge.get("/readyz").await.json();
    assert_eq!(told["detail"]["config"], "ok");
    assert_eq!(told["detail"]["lost_rows"], 0);
    assert_eq!(
        bridge
            .send("GET /openapi.json", &["no-key: 1"], "")
            .await
            .status,
        401
    );
    bridge.stop().await;

    let public = Bridge::start("docs_public: true\n").await;
    assert_eq!(
        public
            .send("GET /openapi.json", &["no-key: 1"], "")
            .await
            .status,
        200
    );
    assert_eq!(
        public.send("GET /docs", &["no-key: 1"], "").await.status,
        200
    );
    public.stop().await;
}

#[tokio::test]
async fn a_verb_the_path_does_not_know_is_405_with_the_ones_it_knows() {
    let bridge = Bridge::start("").await;
    let reply = bridge.send("DELETE /v1/calls", &[], "").await;
    assert_eq!(reply.status, 405);
    assert_eq!(reply.json()["status"], 405);
    let allow = reply.header("allow").unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    bridge.stop().await;
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_before_the_credential_is_looked_at() {
    let bridge = Bridge::start("public_url: https://bridge.example\n").await;
    let port = bridge.address.port();
    let own = format!("127.0.0.1:{port}");
    let status = async |headers: &[&str]| bridge.send("GET /v1/me", headers, "").await.status;
    assert_eq!(status(&[&format!("host: localhost:{port}")]).await, 200);
    assert_eq!(status(&["host: bridge.example"]).await, 200);
    assert_eq!(status(&["host: evil.test"]).await, 403);
    assert_eq!(status(&[&format!("host: evil.test:{port}")]).await, 403);
    assert_eq!(
        status(&[&format!("host: {own}"), &format!("host: {own}")]).await,
        403
    );
    // HTTP itself wants a Host; hyper lets it pass and the door does not.
    assert_eq!(status(&["host:"]).await, 403);
    assert_eq!(status(&["origin: http://evil.test"]).await, 403);
    assert_eq!(status(&["origin: null"]).await, 403);
    assert_eq!(status(&[&format!("origin: http://{own}")]).await, 200);
    assert_eq!(status(&["origin: https://bridge.example"]).await, 200);
    for open in api::front::OPEN_ROUTES {
        assert_eq!(
            bridge
                .send(&format!("GET {open}"), &["host: evil.test"], "")
                .await
                .status,
            403,
            "{open}"
        );
    }
    let absolute = bridge
        .send(&format!("GET http://evil.test:{port}/v1/me"), &[], "")
        .await;
    assert_eq!(absolute.status, 403);
    let absolute = bridge
        .send(&format!("GET http://{own}/v1/me"), &["host: evil.test"], "")
        .await;
    assert_eq!(
        absolute.status, 200,
        "an absolute target counts by its own authority"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn preflights_are_answered_for_trusted_pages_only() {
    let bridge = Bridge::start("auth: {trusted_origins: ['https://studio.example']}\n").await;
    assert_eq!(
        bridge
            .send("OPTIONS /v1/calls", &["no-key: 1"], "")
            .await
            .status,
        403
    );
    assert_eq!(
        bridge
            .send(
                "OPTIONS /v1/calls",
                &["no-key: 1", "origin: http://evil.test"],
                ""
            )
            .await
            .status,
        403
    );
    let reply = bridge
        .send(
            "OPTIONS /v1/calls",
            &["no-key: 1", "origin: https://studio.example"],
            "",
        )
        .await;
    assert_eq!(reply.status, 204);
    assert_eq!(
        reply.header("access-control-allow-origin").as_deref(),
        Some("https://studio.example")
    );
    bridge.stop().await;
}

#[tokio::test]
async fn every_answer_carries_its_trace_and_joins_the_caller_s() {
    let bridge = Bridge::start("").await;
    for path in ["/healthz", "/v1/me", "/nowhere", "/v1/calls?limit=x"] {
        assert_eq!(
            bridge.get(path).await.header("x-trace-id").unwrap().len(),
            32,
            "{path}"
        );
    }
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let reply = bridge.send("GET /nowhere", &[parent], "").await;
    assert_eq!(
        reply.header("x-trace-id").as_deref(),
        Some("4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert_eq!(reply.json()["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let reply = bridge
        .send("GET /nowhere", &["traceparent: 00-zz-1-01"], "")
        .await;
    assert_eq!(reply.header("x-trace-id").unwrap().len(), 32);
    bridge.stop().await;
}

#[tokio::test]
async fn a_workspace_that_is_not_the_caller_s_does_not_exist() {
    let bridge = Bridge::start("").await;
    assert_eq!(
        bridge
            .post("/v1/workspaces", &json!({"workspace": "secret"}))
            .await
            .status,
        201
    );
    let key = bridge.key_of("ann", "operator").await;
    let auth = format!("authorization: Bearer {key}");
    let strip = |mut body: Value| {
        body.as_object_mut().unwrap().remove("trace_id");
        body
    };
    let foreign = bridge
        .send("GET /v1/me", &[&auth, "x-workspace: secret"], "")
        .await;
    let unknown = bridge
        .send("GET /v1/me", &[&auth, "x-workspace: no-such"], "")
        .await;
    assert_eq!((foreign.status, unknown.status), (404, 404));
    assert_eq!(strip(foreign.json()), strip(unknown.json()));
    bridge.stop().await;
}

#[tokio::test]
async fn who_may_not_manage_is_told_so_and_nothing_happens() {
    let bridge = Bridge::start("").await;
    let key = bridge.key_of("ann", "operator").await;
    let auth = format!("authorization: Bearer {key}");
    let user = json!({"user": "eve", "workspaces": []}).to_string();
    let command =
        json!({"name": "sh", "definition": {"transport": "stdio", "command": ["sh"]}}).to_string();
    for (line, body) in [
        ("POST /v1/users", user.as_str()),
        ("POST /v1/workspaces", r#"{"workspace":"w"}"#),
        ("POST /v1/admin/reload", ""),
        ("POST /v1/servers", command.as_str()),
    ] {
        let reply = bridge.send(line, &[&auth], body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (403, "forbidden"),
            "{line}: {}",
            reply.text()
        );
    }
    bridge.stop().await;
}
