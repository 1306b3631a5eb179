//! From where: addresses that may come in, proxies that are believed, pages that are trusted.

use crate::kit::{Bridge, Reply};

#[tokio::test]
async fn only_listed_addresses_come_in_and_only_named_proxies_speak_for_others() {
    let bridge =
        Bridge::start("auth: {ip_allow: [198.51.100.0/24], trusted_proxies: [127.0.0.1]}\n").await;
    let status = async |line: &str, headers: &[&str]| bridge.send(line, headers, "").await.status;
    assert_eq!(
        status("GET /v1/me", &[]).await,
        403,
        "the proxy itself is not listed"
    );
    for (forwarded, expected) in [
        ("198.51.100.7", 200),
        ("203.0.113.5", 403),
        ("203.0.113.5, 198.51.100.7", 200),
        ("198.51.100.7, 203.0.113.5", 403),
        ("198.51.100.7, 127.0.0.1", 200),
        ("198.51.100.7, nonsense", 403),
    ] {
        let header = format!("x-forwarded-for: {forwarded}");
        assert_eq!(
            status("GET /v1/me", &[&header]).await,
            expected,
            "{forwarded}"
        );
    }
    // Nothing is open to an address that may not come in, and no other header tells one.
    for line in [
        "GET /healthz",
        "POST /v1/login",
        "GET /v1/agents/tunnel",
        "POST /mcp",
        "OPTIONS /v1/me",
    ] {
        assert_eq!(status(line, &["no-key: 1"]).await, 403, "{line}");
    }
    for other in [
        "forwarded: for=198.51.100.7",
        "x-real-ip: 198.51.100.7",
        "cf-connecting-ip: 198.51.100.7",
    ] {
        assert_eq!(status("GET /v1/me", &[other]).await, 403, "{other}");
    }
    bridge.stop().await;

    let direct = Bridge::start("auth: {ip_allow: [127.0.0.0/8]}\n").await;
    let header = "x-forwarded-for: 203.0.113.5";
    assert_eq!(
        direct.send("GET /v1/me", &[header], "").await.status,
        200,
        "nobody's word counts"
    );
    // A change of the list is felt without a restart.
    direct.rewrite("auth: {ip_allow: [203.0.113.0/24]}\n");
    assert_eq!(
        direct.send("POST /v1/admin/reload", &[], "").await.status,
        200
    );
    assert_eq!(direct.get("/v1/me").await.status, 403);
    direct.stop().await;
}

/// The origin a page is told, and the methods in order.
fn allowed(reply: &Reply) -> (Option<String>, Option<String>) {
    let origin = reply.header("access-control-allow-origin");
    let methods = reply.header("access-control-allow-methods").map(|methods| {
        let mut methods: Vec<&str> = methods.split(", ").collect();
        methods.sort_unstable();
        methods.join(", ")
    });
    (origin, methods)
}

#[tokio::test]
async fn pages_of_other_origins_hear_what_the_path_knows_and_only_when_trusted() {
    let bridge = Bridge::start("auth: {trusted_origins: ['https://studio.example']}\n").await;
    let trusted = "origin: https://studio.example";
    let preflight = async |path: &str, more: &[&str]| {
        let mut headers = vec!["no-key: 1", "access-control-request-method: POST"];
        headers.extend_from_slice(more);
        bridge.send(&format!("OPTIONS {path}"), &headers, "").await
    };
    let reply = preflight(
        "/v1/calls",
        &[
            trusted,
            "access-control-request-headers: mcp-param-x, x-evil",
        ],
    )
    .await;
    assert_eq!(reply.status, 204);
    let (origin, methods) = allowed(&reply);
    assert_eq!(origin.as_deref(), Some("https://studio.example"));
    assert_eq!(methods.as_deref(), Some("GET, POST"));
    let headers = reply.header("access-control-allow-headers").unwrap();
    assert!(
        headers.contains("authorization") && headers.contains("mcp-param-x"),
        "{headers}"
    );
    assert!(!headers.contains("x-evil") && !headers.contains("cookie") && !headers.contains('*'));
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    for part in [
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
    ] {
        let vary =
            |line: &str| line.to_ascii_lowercase().starts_with("vary:") && line.contains(part);
        assert!(reply.head.lines().any(vary), "{part}: {}", reply.head);
    }
    let (_, methods) = allowed(&preflight("/v1/keys/x", &[trusted]).await);
    assert_eq!(methods.as_deref(), Some("DELETE"));
    let (_, methods) = allowed(&preflight("/nowhere", &[trusted]).await);
    assert_eq!(methods, None);
    bridge.stop().await;
}

#[tokio::test]
async fn our_own_page_needs_no_leave_and_a_foreign_one_gets_none() {
    let bridge = Bridge::start("auth: {trusted_origins: ['https://studio.example']}\n").await;
    let trusted = "origin: https://studio.example";
    let own = format!("origin: http://{}", bridge.address);
    let plain = bridge.send("GET /v1/me", &[&own], "").await;
    assert_eq!((plain.status, allowed(&plain)), (200, (None, None)));
    assert_eq!(plain.header("vary").as_deref(), Some("origin"));
    let foreign = bridge
        .send(
            "OPTIONS /v1/calls",
            &["no-key: 1", "origin: http://evil.test"],
            "",
        )
        .await;
    assert_eq!((foreign.status, allowed(&foreign)), (403, (None, None)));
    let read = bridge.send("GET /v1/me", &[trusted], "").await;
    assert_eq!(allowed(&read).0.as_deref(), Some("https://studio.example"));
    bridge.stop().await;

    let closed = Bridge::start("").await;
    let reply = closed
        .send("OPTIONS /v1/calls", &["no-key: 1", trusted], "")
        .await;
    assert_eq!((reply.status, allowed(&reply)), (403, (None, None)));
    assert_eq!(reply.header("vary"), None);
    closed.stop().await;
}
