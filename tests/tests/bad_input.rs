//! Wrong requests and broken servers, each answered with a code from the closed list.

use std::fmt::Write as _;

use serde_json::json;
use testkit::upstreams::{self, Upstream};
use testkit::{Bridge, BridgeOptions, Reply};
use tokio::process::Command;

fn is(reply: &Reply, status: u16, code: &str) {
    let body = reply.json();
    assert_eq!(
        (reply.status.as_u16(), body["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    assert_eq!(body["type"], format!("urn:paperbot:problem:{code}"));
    assert_eq!(reply.headers["content-type"], "application/problem+json");
}

fn server(name: &'static str, yaml: &str) -> Upstream {
    Upstream {
        name,
        yaml: yaml.to_owned(),
    }
}

async fn bridge() -> Bridge {
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams: vec![upstreams::fixture("modern")],
        extra: "limits: {body_bytes: 4096}\n".to_owned(),
        ..BridgeOptions::default()
    })
    .await;
    bridge.wait_for_ref("modern.add").await;
    bridge
}

#[tokio::test]
async fn wrong_calls_are_told_apart() {
    let bridge = bridge().await;
    let call = async |body: serde_json::Value| bridge.send("POST", "/v1/calls", Some(body)).await;
    let unknown_field = call(json!({"ref": "modern.echo", "argumnets": {}})).await;
    is(&unknown_field, 400, "invalid_request");
    assert!(
        unknown_field.text().contains("arguments"),
        "a suggestion: {}",
        unknown_field.text()
    );
    is(
        &call(json!({"ref": 7, "arguments": {}})).await,
        400,
        "invalid_request",
    );
    let large = json!({"ref": "modern.echo", "arguments": {"message": "x".repeat(5000)}});
    is(&call(large).await, 413, "payload_too_large");
    let near = call(json!({"ref": "modern.ad", "arguments": {}})).await;
    is(&near, 404, "tool_not_found");
    assert!(near.text().contains("modern.add"), "{}", near.text());
    let arguments = call(json!({"ref": "modern.add", "arguments": {"a": 1, "b": "two"}})).await;
    is(&arguments, 422, "invalid_arguments");
    assert_eq!(arguments.json()["executed"], "no");
    assert_eq!(arguments.json()["errors"][0]["pointer"], "/arguments/b");
    let stale =
        json!({"ref": "modern.echo", "arguments": {"message": "x"}, "schema_hash": "0123456789ab"});
    is(&call(stale).await, 409, "schema_changed");
}

#[tokio::test]
async fn wrong_addresses_and_credentials_are_told_apart() {
    let bridge = bridge().await;
    let get = async |path: &str| bridge.send("GET", path, None).await;
    is(
        &get("/v1/catalog?cursor=nonsense").await,
        400,
        "invalid_request",
    );
    let call = get("/v1/calls/call_0199aaaa-0000-7000-8000-000000000000").await;
    is(&call, 404, "call_not_found");
    let session = get("/v1/sessions/ses_0199aaaa-0000-7000-8000-000000000000").await;
    is(&session, 404, "session_not_found");
    let with =
        async |header: (&str, &str)| bridge.send_with("GET /v1/catalog", &[header], None).await;
    assert_eq!(with(("x-workspace", "not-mine")).await.status, 404);
    is(
        &with(("authorization", "Bearer pb_x_y")).await,
        401,
        "unauthenticated",
    );
    is(
        &with(("origin", "http://evil.test")).await,
        403,
        "forbidden",
    );
}

#[tokio::test]
async fn broken_servers_are_told_in_words_and_at_once() {
    let bridge = Bridge::start(vec![
        server("absent", "    transport: streamable_http\n    url: http://127.0.0.1:9/mcp\n    allow_private: true\n"),
        server("leaves", "    transport: stdio\n    command: [sh, -c, \"echo no config here >&2; exit 3\"]\n"),
        server("missing", "    transport: stdio\n    command: [no-such-command-anywhere]\n"),
    ])
    .await;
    for (name, words) in [
        ("absent", "refused"),
        ("leaves", "no config here"),
        ("missing", "no-such-command-anywhere"),
    ] {
        let reply = bridge
            .send("POST", "/v1/sessions", Some(json!({"server": name})))
            .await;
        let body = reply.json();
        assert_eq!(reply.status, 502, "{body}");
        let code = body["code"].as_str().unwrap();
        assert!(
            ["upstream_unreachable", "upstream_exited"].contains(&code),
            "{body}"
        );
        assert_eq!(body["executed"], "no", "{body}");
        assert!(body.to_string().contains(words), "{name}: {body}");
    }
}

#[tokio::test]
async fn a_configuration_with_a_mistake_stops_the_start_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (text, place, word) in [
        ("listen: 127.0.0.1:0\nservers: [\n", "bridge.yaml:", ""),
        (
            "listen: 127.0.0.1:0\nsesions: {}\n",
            "bridge.yaml:2",
            "sessions",
        ),
    ] {
        let path = folder.path().join("bridge.yaml");
        std::fs::write(&path, text).unwrap();
        let output = Command::new(upstreams::built("paperbot-mcpd"))
            .args(["serve", "--config"])
            .arg(&path)
            .env("XDG_DATA_HOME", folder.path())
            .env("XDG_STATE_HOME", folder.path())
            .output()
            .await
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(place) && stderr.contains(word),
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn a_secret_of_a_definition_shows_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "CANARY-9f31").unwrap();
    let mut fixture = upstreams::fixture("modern");
    let secret = secret.display();
    let _ = writeln!(
        fixture.yaml,
        "    env: {{TOKEN: {{secret: \"file:{secret}\"}}}}"
    );
    let bridge = Bridge::start(vec![fixture]).await;
    bridge.wait_for_ref("modern.echo").await;
    bridge
        .post(
            "/v1/calls",
            json!({"ref": "modern.echo", "arguments": {"message": "x"}}),
        )
        .await;
    let mut seen = bridge.log();
    for path in [
        "/v1/servers",
        "/v1/servers/modern",
        "/v1/sessions",
        "/v1/events/history",
        "/v1/calls",
        "/v1/audit",
        "/metrics",
    ] {
        let reply = bridge.send("GET", path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        seen.push_str(&reply.text());
    }
    assert!(!seen.contains("CANARY-9f31"));
    assert!(
        !bridge
            .log()
            .replace(&format!("admin.key): {}", bridge.admin_key), "")
            .contains(&bridge.admin_key)
    );
}
