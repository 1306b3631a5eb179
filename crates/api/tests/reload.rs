//! A configuration is read again: a good one applies, a bad one changes nothing and says so.

mod kit;

use kit::{Bridge, demo, events, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_good_file_applies_and_a_bad_one_changes_nothing() {
    let bridge = Bridge::start("").await;
    assert_eq!(bridge.get("/v1/servers").await.json()["items"], json!([]));
    bridge.rewrite(&demo());
    let told = bridge.send("POST /v1/admin/reload", &[], "").await;
    assert_eq!(told.json()["added"], json!(["demo"]), "{}", told.text());
    assert_eq!(
        bridge.get("/v1/servers/demo").await.json()["source"],
        "file"
    );

    bridge.rewrite("sesions: {}\n");
    let told = bridge.send("POST /v1/admin/reload", &[], "").await;
    assert_eq!(told.status, 422, "{}", told.text());
    assert!(
        told.json()["detail"]
            .as_str()
            .unwrap()
            .contains("bridge.yaml:2:1"),
        "{}",
        told.text()
    );
    assert_eq!(
        bridge.get("/v1/servers/demo").await.status,
        200,
        "nothing changed"
    );
    let ready = bridge.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(
        ready.json()["detail"]["config"]
            .as_str()
            .unwrap()
            .contains("did you mean `sessions`?")
    );
    let open = bridge.send("GET /readyz", &["no-key: 1"], "").await;
    assert!(!open.text().contains("sesions"), "{}", open.text());
    let events = bridge
        .get("/v1/events/history?types=config_reload_failed")
        .await
        .json();
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");

    bridge.rewrite("docs_public: true\nlimits: {body_bytes: 5}\n");
    let told = bridge.send("POST /v1/admin/reload", &[], "").await.json();
    assert_eq!(
        (told["removed"].clone(), told["needs_restart"].clone()),
        (json!(["demo"]), json!(["limits"]))
    );
    let again = bridge.send("POST /v1/admin/reload", &[], "").await.json();
    assert_eq!(again["needs_restart"], json!(["limits"]), "it still waits");
    assert_eq!(bridge.get("/readyz").await.json()["detail"]["config"], "ok");
    assert_eq!(
        bridge.send("GET /docs", &["no-key: 1"], "").await.status,
        200,
        "what a reload can change, it changes"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_being_told() {
    let bridge = Bridge::start("").await;
    bridge.rewrite(&demo());
    eventually("the server is there", || async {
        (bridge.get("/v1/servers/demo").await.status == 200).then_some(())
    })
    .await;
    bridge.stop().await;
}

#[tokio::test]
async fn an_event_stream_resumes_where_it_was_left() {
    let bridge = Bridge::start("").await;
    let definition = |path: &str| json!({"definition": {"transport": "sse", "url": format!("https://mcp.example/{path}")}});
    let put = async |path: &str| {
        let reply = bridge
            .send(
                "PUT /v1/servers/web",
                &["if-match: *"],
                &definition(path).to_string(),
            )
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    let made = json!({"name": "web", "definition": definition("a")["definition"]});
    assert_eq!(bridge.post("/v1/servers", &made).await.status, 201);
    let mut stream = bridge.connect().await;
    let request = bridge.request("GET /v1/events?after=0&types=server_version", &[], "");
    stream.write_all(request.as_bytes()).await.unwrap();
    put("b").await;
    let mut text = String::new();
    while events(&text).len() < 2 {
        let mut chunk = [0_u8; 4096];
        let count = stream.read(&mut chunk).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    drop(stream);
    let seen = events(&text);
    put("c").await;
    let last = format!("last-event-id: {}", seen[1]["id"].as_str().unwrap());
    let mut stream = bridge.connect().await;
    let request = bridge.request("GET /v1/events?types=server_version", &[&last], "");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    while events(&text).is_empty() {
        let mut chunk = [0_u8; 4096];
        let count = stream.read(&mut chunk).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    let resumed = events(&text);
    assert!(
        resumed[0]["id"].as_str() > seen[1]["id"].as_str(),
        "{resumed:?}"
    );
    let history = bridge
        .get("/v1/events/history?types=server_version&after=0")
        .await
        .json();
    assert_eq!(history["items"].as_array().unwrap().len(), 3, "{history}");
    assert_eq!(history["items"][2]["id"], resumed[0]["id"]);
    bridge.stop().await;
}
