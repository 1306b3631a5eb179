//! The real agent behind the real bridge, with a gate between them that can be moved and cut.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::tunnel::{AGENT, Agent};
use testkit::{Bridge, BridgeOptions, eventually};
use tokio::net::{TcpListener, TcpStream};

/// Forwards to wherever the bridge is now: its port changes when it is started again.
struct Gate {
    port: u16,
    target: Arc<Mutex<String>>,
}

impl Gate {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::<Mutex<String>>::default();
        let wanted = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut inner, _)) = listener.accept().await {
                let target = wanted.lock().unwrap().clone();
                tokio::spawn(async move {
                    let mut outer = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut inner, &mut outer).await
                });
            }
        });
        Self { port, target }
    }

    fn lead_to(&self, bridge: &Bridge) {
        self.target.lock().unwrap().clone_from(&bridge.authority);
    }
}

async fn start() -> (Gate, Bridge) {
    let gate = Gate::start().await;
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams: Vec::new(),
        extra: format!("public_url: http://127.0.0.1:{}\n", gate.port),
        ..BridgeOptions::default()
    })
    .await;
    gate.lead_to(&bridge);
    (gate, bridge)
}

async fn joined(gate: &Gate, bridge: &Bridge) -> Agent {
    let reply = bridge
        .send(
            "POST",
            "/v1/agents/tokens",
            Some(json!({"agent_id": AGENT})),
        )
        .await;
    assert!(reply.status.is_success(), "{}", reply.text());
    let url = format!("ws://127.0.0.1:{}/v1/agents/tunnel", gate.port);
    let mut agent = Agent::new(&url, "");
    agent.set_token(reply.json()["token"].as_str().unwrap());
    agent.start();
    wait_for_echo(bridge).await;
    agent
}

/// Waits until the catalogue shows the agent's echo. Before the agent came its server is unknown.
async fn wait_for_echo(bridge: &Bridge) {
    let path = "/v1/catalog?server=my-laptop-fixture&limit=500";
    eventually("the agent's tools", || async {
        let reply = bridge.send("GET", path, None).await;
        reply
            .text()
            .contains("my-laptop-fixture.echo")
            .then_some(())
    })
    .await;
}

async fn begun(bridge: &Bridge, steps: u32) -> String {
    let arguments = json!({"line": "once", "steps": steps});
    let body = json!({"ref": "my-laptop-fixture.slow_bump", "arguments": arguments});
    let accepted = bridge
        .send_with("POST /v1/calls", &[("prefer", "respond-async")], Some(body))
        .await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let path = accepted.headers["location"].to_str().unwrap().to_owned();
    eventually("the call runs", || async {
        (bridge.get(&path).await["state"] == "running").then_some(())
    })
    .await;
    path
}

async fn ended(bridge: &Bridge, path: &str) -> Value {
    eventually("the call ended", || async {
        let call = bridge.get(&format!("{path}?wait_ms=5000")).await;
        (call["state"] != "running").then_some(call)
    })
    .await
}

#[tokio::test]
async fn a_call_through_an_agent_survives_kill_9_of_the_bridge() {
    let (gate, mut bridge) = start().await;
    let agent = joined(&gate, &bridge).await;
    let path = begun(&bridge, 60).await;
    bridge.crash_and_restart().await;
    gate.lead_to(&bridge);
    assert!(agent.effects().is_empty(), "the call was still running");
    let call = ended(&bridge, &path).await;
    assert_eq!(
        call["state"],
        "succeeded",
        "{call}\n{}\n{}",
        bridge.log(),
        agent.log()
    );
    assert!(call.to_string().contains("bumped"), "{call}");
    assert_eq!(agent.effects(), ["once"]);
    eventually("the agent is told that it is kept", || async {
        (agent.status().await["unacknowledged"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_agent_was_killed_has_an_unknown_outcome_and_one_effect_at_most() {
    let (gate, bridge) = start().await;
    let mut agent = joined(&gate, &bridge).await;
    let path = begun(&bridge, 600).await;
    agent.end(Signal::SIGKILL).await;
    agent.start();
    let call = ended(&bridge, &path).await;
    assert_eq!(call["state"], "outcome_unknown", "{call}");
    assert!(agent.effects().is_empty());
}

#[tokio::test]
async fn without_its_agent_a_server_is_offline_at_once_and_stays_listed() {
    let (gate, bridge) = start().await;
    let mut agent = joined(&gate, &bridge).await;
    assert_eq!(agent.end(Signal::SIGTERM).await, Some(0));
    let body = json!({"ref": "my-laptop-fixture.echo", "arguments": {"message": "x"}});
    let refused = eventually("the bridge knows", || async {
        let reply = bridge.send("POST", "/v1/calls", Some(body.clone())).await;
        (!reply.status.is_success()).then_some(reply)
    })
    .await;
    assert_eq!(
        refused.json()["code"],
        "agent_offline",
        "{}",
        refused.text()
    );
    wait_for_echo(&bridge).await;
}

#[tokio::test]
async fn a_pair_is_confirmed_by_somebody_signed_in_and_the_token_works() {
    let (gate, bridge) = start().await;
    let home = tempfile::tempdir().unwrap();
    let mut command = bridge.cli_command(&["agent", "pair", "--id", AGENT, "--save", "token"]);
    command.current_dir(home.path());
    let mut pairing = command.spawn().unwrap();
    let mut lines = {
        use tokio::io::AsyncBufReadExt as _;
        tokio::io::BufReader::new(pairing.stderr.take().unwrap()).lines()
    };
    let line = lines.next_line().await.unwrap().unwrap();
    let code = line.rsplit(' ').next().unwrap().to_owned();
    let confirmed = bridge
        .cli_command(&["agent", "confirm", &code])
        .output()
        .await
        .unwrap();
    assert!(confirmed.status.success(), "{confirmed:?}");
    let output = pairing.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let token = std::fs::read_to_string(home.path().join("token")).unwrap();
    let url = format!("ws://127.0.0.1:{}/v1/agents/tunnel", gate.port);
    let mut agent = Agent::new(&url, "");
    agent.set_token(&token);
    agent.start();
    wait_for_echo(&bridge).await;
    let listed = bridge
        .cli_command(&["agent", "list"])
        .output()
        .await
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.starts_with("my-laptop  online"), "{listed}");
}
