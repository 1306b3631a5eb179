//! Calls of a tool behind the real agent whose caller leaves in the middle: the agent's server is told, and the
//! ledger says so once.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testkit::bridge::finish;
use testkit::chaos::token;
use testkit::tunnel::{AGENT, Agent, EFFECTS};
use testkit::{Bridge, eventually, upstreams};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const SERVER: &str = "my-laptop-fixture";
/// As many as the tool takes, half a minute: one that ran to its end would not say it was cancelled.
const STEPS: u32 = 600;
/// What the CLI exits with when it was interrupted.
const CANCELLED: i32 = 130;

/// A bridge, and an agent with the fixture server whose tools are listed there.
async fn joined() -> (Bridge, Agent) {
    let bridge = Bridge::start(Vec::new()).await;
    let url = format!("ws://{}/v1/agents/tunnel", bridge.authority);
    let token = token(&bridge, AGENT).await;
    let mut agent = Agent::with_servers((&url, &token), |home| {
        let (program, effects) = (upstreams::built("fixture-server"), home.join(EFFECTS));
        format!(
            "\x20 - name: fixture\n\x20   command: {}\n\
             \x20   args: [stdio, --era, legacy, --effects, {}]\n",
            program.display(),
            effects.display()
        )
    });
    agent.start();
    // Before the agent came, its server is unknown and cannot be asked for by name.
    let wanted = format!("{SERVER}.slow");
    eventually(&wanted, || async {
        let page = bridge.get("/v1/catalog?kind=tool&limit=500").await;
        let mut items = page["items"].as_array()?.iter();
        items.any(|item| item["ref"] == wanted).then_some(())
    })
    .await;
    (bridge, agent)
}

/// The calls of the slow tool in the ledger.
async fn calls(bridge: &Bridge) -> Vec<Value> {
    let page = bridge.get(&format!("/v1/calls?ref={SERVER}.slow")).await;
    page["items"].as_array().unwrap().clone()
}

/// Waits until the slow tool runs; the call's path.
async fn running(bridge: &Bridge) -> String {
    eventually("the call runs", || async {
        let calls = calls(bridge).await;
        let call = calls.first()?;
        (call["state"] == "running")
            .then(|| format!("/v1/calls/{}", call["call_id"].as_str().unwrap()))
    })
    .await
}

/// The call ended as cancelled, told so once, and its server heard of it.
async fn is_cancelled_once(bridge: &Bridge, agent: &Agent, path: &str) {
    agent.wait_for_effect("slow cancelled").await;
    let ended: Value = eventually("the call ended", || async {
        let call = bridge.get(&format!("{path}?wait_ms=5000")).await;
        call["ended_at"].is_string().then_some(call)
    })
    .await;
    assert_eq!(ended["state"], "cancelled", "{ended}\n{}", bridge.log());
    let told = bridge.send("GET", &format!("{path}/events"), None).await;
    let ends = told.text().matches("\"type\":\"tool_result\"").count();
    assert_eq!(ends, 1, "{}", told.text());
    let calls = calls(bridge).await;
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0]["state"], "cancelled", "{calls:?}");
    assert_eq!(agent.effects(), ["slow cancelled"]);
}

#[tokio::test]
async fn a_call_whose_cli_is_interrupted_is_cancelled_on_the_agents_server() {
    let (bridge, agent) = joined().await;
    let (tool, steps) = (format!("{SERVER}.slow"), format!("steps={STEPS}"));
    let cli = bridge
        .cli_command(&["call", &tool, &steps])
        .spawn()
        .unwrap();
    let path = running(&bridge).await;
    let pid = i32::try_from(cli.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    let left = finish(cli).await;
    assert_eq!(left.code, CANCELLED, "{left:?}");
    is_cancelled_once(&bridge, &agent, &path).await;
}

#[tokio::test]
async fn a_call_whose_modern_client_drops_its_connection_is_cancelled_on_the_agents_server() {
    let (bridge, agent) = joined().await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "slow", "arguments": {"steps": STEPS}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"}}}})
    .to_string();
    let request = format!(
        "POST /mcp/{SERVER} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n\
         mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: slow\r\n\
         content-length: {}\r\n\r\n{body}",
        bridge.authority,
        bridge.admin_key,
        body.len()
    );
    let mut client = TcpStream::connect(&bridge.authority).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let path = running(&bridge).await;
    drop(client);
    is_cancelled_once(&bridge, &agent, &path).await;
}
