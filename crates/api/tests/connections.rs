//! Connections that are slow, gone, half-closed or many; and the end of the daemon.

mod kit;

use std::time::Duration;

use api::config::Source;
use api::daemon::StartError;
use kit::{Bridge, PATIENCE, demo, eventually, read_reply};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_head_that_never_ends_is_closed_by_its_clock() {
    let bridge = Bridge::start("").await;
    let mut stream = bridge.connect().await;
    stream
        .write_all(b"GET /v1/me HTTP/1.1\r\nhost: ")
        .await
        .unwrap();
    // The daemon is quiet: from here on the clock runs as fast as nothing happens.
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection stays open");
    assert!(before.elapsed() + Duration::from_secs(1) >= api::serve::HEADER_READ_TIMEOUT);
    tokio::time::resume();
    assert_eq!(bridge.get("/healthz").await.status, 200);
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_let_go() {
    let bridge = Bridge::start("").await;
    let mut stream = bridge.connect().await;
    let request = bridge
        .request("GET /openapi.json", &[], "")
        .replace("connection: close\r\n", "");
    // Far more answers than all socket buffers hold.
    stream
        .write_all(request.repeat(400).as_bytes())
        .await
        .unwrap();
    let open = async || {
        bridge.get("/health").await.json()["connections"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(open().await, 2);
    tokio::time::pause();
    tokio::time::sleep(api::serve::peer::WRITE_STALL * 2).await;
    tokio::time::resume();
    eventually("the connection is gone", || async {
        (open().await == 1).then_some(())
    })
    .await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_or_no_http_is_refused() {
    let bridge = Bridge::start("").await;
    let flood = format!("x-flood: {}", "a".repeat(100_000));
    assert_eq!(bridge.send("GET /healthz", &[&flood], "").await.status, 431);
    let many: Vec<String> = (0..200).map(|number| format!("x-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(bridge.send("GET /healthz", &many, "").await.status, 431);
    assert_eq!(bridge.raw(b"nonsense\r\n\r\n").await.status, 400);
    assert_eq!(bridge.get("/healthz").await.status, 200);
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_plain_call() {
    let bridge = Bridge::start(&demo()).await;
    let body = json!({"ref": "demo.slow", "arguments": {"steps": 600}}).to_string();
    let mut stream = bridge.connect().await;
    stream
        .write_all(bridge.request("POST /v1/calls", &[], &body).as_bytes())
        .await
        .unwrap();
    let running = eventually("the call runs", || async {
        let calls = bridge.get("/v1/calls?ref=demo.slow").await.json();
        let call = calls["items"].get(0)?.clone();
        (call["state"] == "running" || call["state"] == "dispatched").then_some(call)
    })
    .await;
    drop(stream);
    let path = format!(
        "/v1/calls/{}?wait_ms=30000",
        running["call_id"].as_str().unwrap()
    );
    assert_eq!(bridge.get(&path).await.json()["state"], "cancelled");
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_closed_only_its_sending_half_gets_its_answer() {
    let bridge = Bridge::start(&demo()).await;
    // Longer than the first look at whether the client is there.
    let body = json!({"ref": "demo.slow", "arguments": {"steps": 10}}).to_string();
    let mut stream = bridge.connect().await;
    stream
        .write_all(bridge.request("POST /v1/calls", &[], &body).as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let reply = read_reply(&mut stream).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["content"][0]["text"], "10 steps done");
    bridge.stop().await;
}

#[tokio::test]
async fn a_call_with_a_key_outlives_its_connection() {
    let bridge = Bridge::start(&demo()).await;
    let body = json!({"ref": "demo.slow", "arguments": {"steps": 10}}).to_string();
    let mut stream = bridge.connect().await;
    let request = bridge.request("POST /v1/calls", &["idempotency-key: k1"], &body);
    stream.write_all(request.as_bytes()).await.unwrap();
    let path = "/v1/calls?idempotency_key=k1";
    let call = eventually("the call is accepted", || async {
        bridge.get(path).await.json()["items"].get(0).cloned()
    })
    .await;
    drop(stream);
    let path = format!(
        "/v1/calls/{}?wait_ms=30000",
        call["call_id"].as_str().unwrap()
    );
    let end = bridge.get(&path).await.json();
    assert_eq!(end["state"], "succeeded", "{end}");
    assert_eq!(end["result"]["content"][0]["text"], "10 steps done");
    let again = bridge
        .send("POST /v1/calls", &["idempotency-key: k1"], &body)
        .await
        .json();
    assert_eq!(
        (again["replayed"].clone(), again["call_id"].clone()),
        (json!(true), call["call_id"].clone())
    );
    bridge.stop().await;
}

#[tokio::test]
async fn shutting_down_closes_the_listener_ends_streams_and_leaves_nothing() {
    let bridge = Bridge::start("").await;
    let mut stream = bridge.connect().await;
    stream
        .write_all(bridge.request("GET /v1/events", &[], "").as_bytes())
        .await
        .unwrap();
    let mut first = [0_u8; 16];
    stream.read_exact(&mut first).await.unwrap();
    let address = bridge.address;
    bridge.stop().await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the event stream stays open");
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "the listener is closed"
    );
}

#[tokio::test]
async fn elsewhere_than_on_loopback_keys_are_a_must() {
    let home = tempfile::tempdir().unwrap();
    let refused = kit::start(home.path(), "listen: 0.0.0.0:0\nauth: {keys: false}\n").await;
    assert!(matches!(refused, Err(StartError::Config(_))), "{refused:?}");
    let local = kit::start(home.path(), "listen: 127.0.0.1:0\nauth: {keys: false}\n")
        .await
        .unwrap();
    local.shutdown().await;
}

#[tokio::test]
async fn the_admin_key_is_made_once_and_works_after_a_restart() {
    let bridge = Bridge::start("").await;
    let (home, key) = (bridge.home.path().to_owned(), bridge.key.clone());
    let kept = bridge.home;
    bridge.daemon.shutdown().await;
    let daemon = kit::start(&home, "").await.unwrap();
    let address = daemon.address();
    let again = Bridge {
        home: kept,
        daemon,
        address,
        key,
    };
    assert_eq!(again.get("/v1/me").await.json()["roles"], json!(["admin"]));
    again.stop().await;
}

#[tokio::test]
async fn a_server_of_the_file_that_cannot_be_is_told_by_its_place() {
    let home = tempfile::tempdir().unwrap();
    let refused = kit::start(home.path(), "servers: {a: {transport: stdio}}\n").await;
    let Err(StartError::Config(error)) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        error.place.ends_with("bridge.yaml: /servers/a/command"),
        "{error}"
    );
    let file = home.path().join("bridge.yaml");
    let source = Source {
        path: Some(file),
        environment: Vec::new(),
    };
    let complaints = api::daemon::check(&source).unwrap_err();
    assert!(
        complaints[0]
            .place
            .ends_with("bridge.yaml: /servers/a/command"),
        "{complaints:?}"
    );
}
