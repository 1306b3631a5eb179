//! What is reached through the real agent behind the real bridge: servers by URL, all they offer, and only what the
//! agent's owner allows.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::chaos::token;
use testkit::tunnel::{AGENT, Agent};
use testkit::{Bridge, eventually, upstreams};
use tokio::time::Instant;

/// A bridge, and an agent with these servers that is about to come to it.
async fn joined(servers: &str) -> (Bridge, Agent) {
    let bridge = Bridge::start(Vec::new()).await;
    let url = format!("ws://{}/v1/agents/tunnel", bridge.authority);
    let token = token(&bridge, AGENT).await;
    let mut agent = Agent::with_servers((&url, &token), |home| {
        servers.replace(
            "EFFECTS",
            &home.join(testkit::tunnel::EFFECTS).display().to_string(),
        )
    });
    agent.start();
    (bridge, agent)
}

/// Waits for a tool of the agent; before the agent came its server is unknown. All refs of that server then.
async fn listed(bridge: &Bridge, wanted: &str) -> Vec<String> {
    eventually(wanted, || async {
        let page = bridge.get("/v1/catalog?kind=tool&limit=500").await;
        let items = page["items"].as_array()?.iter();
        let refs: Vec<String> = items
            .filter_map(|item| item["ref"].as_str().map(str::to_owned))
            .collect();
        refs.iter().any(|one| one == wanted).then_some(refs)
    })
    .await
}

async fn everything_is_reached(bridge: &Bridge, server: &str) {
    listed(bridge, &format!("{server}.echo")).await;
    let call = json!({"ref": format!("{server}.echo"), "arguments": {"message": "hello ☃"}});
    let answer = bridge.post("/v1/calls", call).await;
    assert_eq!(answer["content"][0]["text"], "Echo: hello ☃", "{answer}");

    let resources = bridge.get(&format!("/v1/resources?server={server}")).await;
    let uri = resources["items"][0]["uri"].as_str().unwrap();
    let path = format!(
        "/v1/resources/read?server={server}&uri={}",
        uri.replace(' ', "%20")
    );
    let read = bridge.get(&path).await;
    assert_eq!(read["contents"][0]["uri"], *uri, "{read}");

    let wish = json!({"ref": format!("{server}.args-prompt"), "arguments": {"city": "Oslo"}});
    let prompt = bridge.post("/v1/prompts/get", wish).await;
    assert!(prompt["messages"].to_string().contains("Oslo"), "{prompt}");

    let argument = json!({"name": "department", "value": "E"});
    let wish = json!({"ref": format!("{server}.completable-prompt"), "argument": argument});
    let completion = bridge.post("/v1/complete", wish).await;
    let first = &completion["completion"]["values"][0];
    assert_eq!(first, "Engineering", "{completion}");
}

#[tokio::test]
async fn servers_by_url_are_reached_through_an_agent_with_all_they_offer() {
    let (_web, web) = upstreams::everything_on_http("streamableHttp").await;
    let (_old, old) = upstreams::everything_on_http("sse").await;
    let servers = format!(
        "\x20 - {{name: web, type: streamable_http, url: \"http://127.0.0.1:{web}/mcp\"}}\n\
         \x20 - {{name: old, type: sse, url: \"http://127.0.0.1:{old}/sse\"}}\n"
    );
    let (bridge, _agent) = joined(&servers).await;
    everything_is_reached(&bridge, "my-laptop-web").await;
    everything_is_reached(&bridge, "my-laptop-old").await;
}

fn fixture(more: &str) -> String {
    let program = upstreams::built("fixture-server");
    format!(
        "\x20 - name: fixture\n\x20   command: {}\n\
         \x20   args: [stdio, --era, legacy, --effects, EFFECTS]\n{more}",
        program.display()
    )
}

#[tokio::test]
async fn only_what_the_owner_allows_is_listed_and_called() {
    let (bridge, agent) = joined(&fixture("    allow_tools: [echo, \"ad*\"]\n")).await;
    let mut refs = listed(&bridge, "my-laptop-fixture.echo").await;
    refs.retain(|one| one.starts_with("my-laptop-fixture."));
    refs.sort();
    assert_eq!(refs, ["my-laptop-fixture.add", "my-laptop-fixture.echo"]);
    let call = json!({"ref": "my-laptop-fixture.bump", "arguments": {"line": "never"}});
    let refused = bridge.send("POST", "/v1/calls", Some(call)).await;
    assert!(!refused.status.is_success(), "{}", refused.text());
    assert!(agent.effects().is_empty(), "{:?}", agent.effects());
}

#[tokio::test]
async fn a_call_to_an_agent_that_is_away_is_refused_long_before_its_timeout() {
    const TIMEOUT: Duration = Duration::from_mins(10);
    let (bridge, mut agent) = joined(&fixture("")).await;
    listed(&bridge, "my-laptop-fixture.echo").await;
    assert_eq!(agent.end(Signal::SIGTERM).await, Some(0));
    eventually("the bridge knows", || async {
        let view = bridge.get(&format!("/v1/agents/{AGENT}")).await;
        (view["status"] != "online").then_some(())
    })
    .await;
    let began = Instant::now();
    let call = json!({
        "ref": "my-laptop-fixture.echo", "arguments": {"message": "x"},
        "timeout_ms": TIMEOUT.as_millis(),
    });
    let refused = bridge.send("POST", "/v1/calls", Some(call)).await;
    assert_eq!(
        refused.json()["code"],
        "agent_offline",
        "{}",
        refused.text()
    );
    assert!(began.elapsed() < TIMEOUT / 10, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_call_that_is_cancelled_by_its_id_is_cancelled_on_the_agents_server() {
    let (bridge, agent) = joined(&fixture("")).await;
    listed(&bridge, "my-laptop-fixture.slow").await;
    let call = json!({"ref": "my-laptop-fixture.slow", "arguments": {"steps": 600}});
    let begun = bridge
        .send_with("POST /v1/calls", &[("prefer", "respond-async")], Some(call))
        .await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let path = begun.headers["location"].to_str().unwrap().to_owned();
    let id = path.rsplit('/').next().unwrap();
    eventually("the call runs", || async {
        (bridge.get(&path).await["state"] == "running").then_some(())
    })
    .await;
    bridge.cli(&["calls", "cancel", id]).await;
    let ended: Value = eventually("the call ended", || async {
        let call = bridge.get(&format!("{path}?wait_ms=5000")).await;
        call["ended_at"].is_string().then_some(call)
    })
    .await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    agent.wait_for_effect("slow cancelled").await;
    let told = bridge.send("GET", &format!("{path}/events"), None).await;
    let ends = told.text().matches("\"type\":\"tool_result\"").count();
    assert_eq!(ends, 1, "{}", told.text());
}
