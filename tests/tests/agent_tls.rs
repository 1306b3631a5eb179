//! An agent reaches its bridge beyond this machine by `wss://` alone, and only a bridge whose certificate it trusts.

use std::path::Path;

use serde_json::json;
use testkit::chaos::token;
use testkit::tls::TlsFront;
use testkit::tunnel::{AGENT, Agent};
use testkit::{Bridge, BridgeOptions, eventually};

/// A bridge behind an encrypted front whose certificate is for `name`, and an agent that dials `localhost` there
/// and trusts `roots`.
async fn rig(
    name: &str,
    roots: impl FnOnce(&TlsFront) -> Option<std::path::PathBuf>,
) -> (Bridge, TlsFront, Agent) {
    let front = TlsFront::open(name).await;
    let options = BridgeOptions {
        extra: format!("public_url: https://localhost:{}\n", front.port()),
        ..BridgeOptions::default()
    };
    let bridge = Bridge::start_with(options).await;
    front.lead_to(&bridge.authority);
    let url = format!("wss://localhost:{}/v1/agents/tunnel", front.port());
    let mut agent = Agent::new(&url, "");
    agent.set_token(&token(&bridge, AGENT).await);
    let roots = roots(&front);
    agent.trust(roots.as_deref().unwrap_or(Path::new("/dev/null")));
    agent.start();
    (bridge, front, agent)
}

#[tokio::test]
async fn an_agent_calls_home_over_tls() {
    let (bridge, _front, _agent) = rig("localhost", |front| Some(front.authority())).await;
    let reference = format!("{AGENT}-fixture.echo");
    let call = json!({"ref": reference, "arguments": {"message": "over tls"}});
    let answer = eventually("the agent's tool answers", || async {
        let answer = bridge.send("POST", "/v1/calls", Some(call.clone())).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(answer["content"][0]["text"], "over tls", "{answer}");
}

#[tokio::test]
async fn an_agent_tells_its_token_to_no_stranger() {
    let strangers = [
        // Nobody it trusts signed that certificate.
        rig("localhost", |_| None).await,
        // That certificate is another host's.
        rig("elsewhere.example", |front| Some(front.authority())).await,
    ];
    for (bridge, _front, agent) in &strangers {
        eventually("the agent says why", || async {
            agent.log().contains("certificate").then_some(())
        })
        .await;
        let view = bridge.get(&format!("/v1/agents/{AGENT}")).await;
        assert_ne!(view["status"], "online", "{view}");
        assert!(!agent.log().contains("online"), "{}", agent.log());
    }
}
