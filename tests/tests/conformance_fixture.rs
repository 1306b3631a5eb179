//! The fixture the conformance suites are pointed at keeps to the eras it is told to; over HTTP the suites see to that.

use serde_json::json;
use testkit::{Bridge, upstreams};

#[tokio::test]
async fn over_stdio_it_speaks_the_era_it_was_told() {
    let bridge = Bridge::start(vec![
        upstreams::conformance("old", "legacy"),
        upstreams::conformance("new", "modern"),
    ])
    .await;
    for (server, era, revision) in [
        ("old", "legacy", "2025-11-25"),
        ("new", "modern", "2026-07-28"),
    ] {
        let path = format!("/v1/servers/{server}/test");
        let report = bridge.send("POST", &path, None).await.json();
        assert_eq!(report["era"], era, "{report}");
        assert_eq!(report["protocol_version"], revision, "{report}");

        let wanted = format!("{server}.test_multiple_content_types");
        bridge.wait_for_ref(&wanted).await;
        let body = json!({"ref": wanted, "arguments": {}});
        let answer = bridge.post("/v1/calls", body).await;
        let kinds: Vec<_> = answer["content"].as_array().into_iter().flatten().collect();
        let kinds: Vec<_> = kinds.iter().map(|block| &block["type"]).collect();
        assert_eq!(kinds, ["text", "image", "resource"], "{answer}");
    }
}
