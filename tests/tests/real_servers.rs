//! Servers nobody here wrote, through the real daemon: listed, explained and called.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use serde_json::json;
use testkit::Bridge;
use testkit::upstreams::{self, Upstream};
use tokio::process::{Child, Command};

async fn everything_works(bridge: &Bridge, server: &str) {
    let echo = format!("{server}.echo");
    bridge.wait_for_ref(&echo).await;

    let page = bridge
        .get(&format!("/v1/catalog?server={server}&kind=tool&limit=500"))
        .await;
    let items = page["items"].as_array().unwrap();
    assert!(items.len() >= 8, "{page}");
    let item = items.iter().find(|item| item["ref"] == *echo).unwrap();
    assert_eq!(
        item["shape"], "(message)",
        "a lone required string needs no type"
    );
    assert_eq!(item["hash"].as_str().unwrap().len(), 12);

    let help = bridge.get(&format!("/v1/tools/help?ref={echo}")).await;
    let entry = &help["items"][0];
    assert_eq!(
        entry["input_schema"]["properties"]["message"]["type"], "string",
        "{help}"
    );
    assert_eq!(entry["hash"], item["hash"]);

    let answer = bridge
        .post(
            "/v1/calls",
            json!({"ref": echo, "arguments": {"message": "hello ☃"}}),
        )
        .await;
    assert_eq!(answer["is_error"], false);
    assert_eq!(answer["content"][0]["text"], "Echo: hello ☃");

    let sum = bridge
        .post(
            "/v1/calls",
            json!({"ref": format!("{server}.get-sum"), "arguments": {"a": 19, "b": 23}}),
        )
        .await;
    assert!(
        sum["content"][0]["text"].as_str().unwrap().contains("42"),
        "{sum}"
    );
}

#[tokio::test]
async fn everything_over_stdio() {
    let bridge = Bridge::start(vec![upstreams::everything()]).await;
    everything_works(&bridge, "everything").await;

    let resources = bridge.get("/v1/resources?server=everything").await;
    let uri = resources["items"][0]["uri"].as_str().unwrap().to_owned();
    let read = bridge
        .get(&format!(
            "/v1/resources/read?server=everything&uri={}",
            uri.replace(' ', "%20")
        ))
        .await;
    assert_eq!(read["contents"][0]["uri"], *uri, "{read}");

    let prompts = bridge.get("/v1/prompts?server=everything").await;
    assert!(
        prompts["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["ref"] == "everything.simple-prompt"),
        "{prompts}"
    );
    let prompt = bridge
        .post(
            "/v1/prompts/get",
            json!({"ref": "everything.args-prompt", "arguments": {"city": "Oslo"}}),
        )
        .await;
    assert!(
        prompt["messages"][0]["content"]["text"]
            .as_str()
            .unwrap()
            .contains("Oslo"),
        "{prompt}"
    );

    let completion = bridge
        .post(
            "/v1/complete",
            json!({"ref": "everything.completable-prompt", "argument": {"name": "department", "value": "E"}}),
        )
        .await;
    assert_eq!(
        completion["completion"]["values"][0], "Engineering",
        "{completion}"
    );
}

#[tokio::test]
async fn everything_over_streamable_http() {
    let (_server, port) = upstreams::everything_on_http("streamableHttp").await;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let bridge = Bridge::start(vec![upstreams::http("web", "streamable_http", &url)]).await;
    everything_works(&bridge, "web").await;
}

#[tokio::test]
async fn everything_over_legacy_sse() {
    let (_server, port) = upstreams::everything_on_http("sse").await;
    let url = format!("http://127.0.0.1:{port}/sse");
    let bridge = Bridge::start(vec![upstreams::http("old", "sse", &url)]).await;
    everything_works(&bridge, "old").await;
}

async fn call_text(bridge: &Bridge, reference: &str, arguments: serde_json::Value) -> String {
    bridge.wait_for_ref(reference).await;
    let answer = bridge
        .post(
            "/v1/calls",
            json!({"ref": reference, "arguments": arguments}),
        )
        .await;
    assert_eq!(answer["is_error"], false, "{answer}");
    answer["content"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn filesystem_and_memory_keep_what_they_are_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("note.txt"), "kept in a file").unwrap();
    let graph = folder.path().join("graph.json");
    let bridge = Bridge::start(vec![
        upstreams::filesystem(folder.path()),
        upstreams::memory(&graph),
    ])
    .await;

    let note = folder.path().join("note.txt");
    let text = call_text(&bridge, "files.read_text_file", json!({"path": note})).await;
    assert_eq!(text, "kept in a file");

    let entity = json!({"entities": [{"name": "bridge", "entityType": "program", "observations": ["it runs"]}]});
    call_text(&bridge, "memory.create_entities", entity).await;
    let found = call_text(&bridge, "memory.search_nodes", json!({"query": "bridge"})).await;
    assert!(found.contains("it runs"), "{found}");
    assert!(
        std::fs::read_to_string(&graph).unwrap().contains("it runs"),
        "the environment variable reached the server"
    );
}

#[tokio::test]
async fn python_servers_tell_the_time_and_the_git_log() {
    let repository = tempfile::tempdir().unwrap();
    for arguments in [
        vec!["init", "-q"],
        vec![
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t.invalid",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "first light",
        ],
    ] {
        let status = std::process::Command::new("git")
            .args(arguments)
            .current_dir(repository.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
    let bridge = Bridge::start(vec![upstreams::time(), upstreams::git(repository.path())]).await;
    let now = call_text(&bridge, "time.get_current_time", json!({"timezone": "UTC"})).await;
    assert!(now.contains("UTC"), "{now}");
    let log = call_text(
        &bridge,
        "git.git_log",
        json!({"repo_path": repository.path()}),
    )
    .await;
    assert!(log.contains("first light"), "{log}");
}

#[tokio::test]
async fn playwright_shows_its_catalogue_without_a_browser() {
    let bridge = Bridge::start(vec![upstreams::playwright()]).await;
    bridge.wait_for_ref("playwright.browser_navigate").await;
    let found = bridge
        .get("/v1/catalog?q=open%20a%20web%20page&server=playwright&limit=5")
        .await;
    let refs: Vec<_> = found["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["ref"].as_str().unwrap())
        .collect();
    assert!(!refs.is_empty() && found["nothing_fits"] != true, "{found}");
}

#[tokio::test]
async fn the_independent_peer_is_spoken_to_in_both_eras_over_both_transports() {
    let modern: Upstream = upstreams::fixture("modern");
    let mut legacy = upstreams::fixture("legacy");
    legacy.yaml = legacy
        .yaml
        .replace("\"stdio\"]", "\"stdio\", \"--era\", \"legacy\"]");
    let mut servers = vec![modern, legacy];
    let mut children = Vec::new();
    for (name, era) in [("webmodern", "modern"), ("weblegacy", "legacy")] {
        let (child, url) = fixture_on_http(era).await;
        children.push(child);
        servers.push(upstreams::http(name, "streamable_http", &url));
    }
    let bridge = Bridge::start(servers).await;
    for (server, era) in [
        ("modern", "modern"),
        ("fixture", "legacy"),
        ("webmodern", "modern"),
        ("weblegacy", "legacy"),
    ] {
        let text = call_text(
            &bridge,
            &format!("{server}.echo"),
            json!({"message": server}),
        )
        .await;
        assert_eq!(text, server);
        let page = bridge.get(&format!("/v1/catalog?server={server}")).await;
        let told = page["servers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["server"] == server)
            .unwrap();
        assert_eq!(told["era"], era, "{told}");
        let sum = bridge
            .post(
                "/v1/calls",
                json!({"ref": format!("{server}.add"), "arguments": {"a": 1, "b": 2.5}}),
            )
            .await;
        assert_eq!(sum["structured_content"]["sum"], 3.5, "{sum}");
    }
}

async fn fixture_on_http(era: &str) -> (Child, String) {
    use tokio::io::AsyncBufReadExt as _;
    let mut child = Command::new(upstreams::built("fixture-server"))
        .args(["http", "--era", era])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let url = tokio::time::timeout(testkit::PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    (child, url)
}
