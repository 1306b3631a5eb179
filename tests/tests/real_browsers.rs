//! Servers that drive a real browser, called through the bridge: they open a page served here and read its title.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use axum::response::Html;
use serde_json::{Value, json};
use testkit::Bridge;
use testkit::upstreams::{self, Upstream};

/// A page on a free loopback port.
async fn page() -> String {
    let router = axum::Router::new().route(
        "/",
        axum::routing::get(|| async { Html("<title>A page behind the bridge</title>") }),
    );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn call(bridge: &Bridge, wanted: &str, arguments: Value) -> String {
    bridge.wait_for_ref(wanted).await;
    let body = json!({"ref": wanted, "arguments": arguments});
    let answer = bridge.post("/v1/calls", body).await;
    assert_eq!(answer["is_error"], false, "{answer}");
    answer["content"].to_string()
}

async fn bridge_to(browser: Upstream) -> Bridge {
    Bridge::start(vec![browser]).await
}

#[tokio::test]
async fn playwright_reads_a_title() {
    let home = tempfile::tempdir().unwrap();
    let bridge = bridge_to(upstreams::playwright_browsing(home.path())).await;
    let opened = call(
        &bridge,
        "playwright.browser_navigate",
        json!({"url": page().await}),
    )
    .await;
    assert!(opened.contains("A page behind the bridge"), "{opened}");
    let asked = json!({"function": "() => document.title + ', read'"});
    let title = call(&bridge, "playwright.browser_evaluate", asked).await;
    assert!(title.contains("A page behind the bridge, read"), "{title}");
}

#[tokio::test]
async fn chrome_devtools_reads_a_title() {
    let bridge = bridge_to(upstreams::chrome_devtools()).await;
    let opened = call(&bridge, "chrome.new_page", json!({"url": page().await})).await;
    assert!(opened.contains("A page behind the bridge"), "{opened}");
    let pages = call(&bridge, "chrome.list_pages", json!({})).await;
    assert!(pages.contains("A page behind the bridge"), "{pages}");
}
