//! The real `paperbot-mcp agent` with real children, against a bridge that says what a test wants said.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::tunnel::{
    Agent, Line, ScriptedBridge, TOKEN, cpu_ticks, processes_below, wait_until_gone,
};

/// An agent that is online and has offered the fixture's tools.
async fn online(more: &str) -> (ScriptedBridge, Agent, Line) {
    let bridge = ScriptedBridge::start().await;
    let mut agent = Agent::new(&bridge.url(), more);
    agent.start();
    let mut line = bridge.admit(json!({})).await;
    line.tools(|tools| has_tool(tools, "echo")).await;
    (bridge, agent, line)
}

fn has_tool(tools: &Value, name: &str) -> bool {
    let servers = tools["servers"].as_array().unwrap();
    let mut all = servers
        .iter()
        .flat_map(|server| server["tools"].as_array().unwrap());
    all.any(|tool| tool["name"] == name)
}

fn text(result: &Value) -> &str {
    result["result_json"]["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test]
async fn an_agent_offers_its_tools_and_runs_them_and_says_no_secret() {
    let (_bridge, mut agent, mut line) = online("    deny_tools: [\"ex*\"]\n").await;
    assert_eq!(line.auth["token"], TOKEN);
    assert_eq!(line.hello["agent_meta"]["label"], "a laptop");
    line.invoke("call_1", "echo", json!({"message": "hello"}))
        .await;
    assert_eq!(text(&line.result("call_1").await), "hello");
    line.invoke("call_2", "exit", json!({})).await;
    let refused = line.result("call_2").await;
    assert_eq!(refused["error"]["code"], "tool_not_found", "{refused}");
    let status = eventually("it is idle", || async {
        let status = agent.status().await;
        (status["state"] == "online" && status["unacknowledged"] == 0).then_some(status)
    })
    .await;
    assert_eq!(
        status["servers"][0]["restarts"], 0,
        "the denied tool was not run"
    );
    assert_eq!(agent.end(Signal::SIGTERM).await, Some(0));
    let log = agent.log();
    for text in [log.clone(), status.to_string()] {
        assert!(!text.contains("never_to_be_logged"), "{text}");
    }
    assert!(log.contains("online"), "{log}");
    assert_eq!(
        std::fs::read_to_string(agent.home().join("stdout")).unwrap(),
        ""
    );
}

#[tokio::test]
async fn progress_comes_before_the_result() {
    let (_bridge, _agent, mut line) = online("").await;
    line.invoke("call_1", "slow", json!({"steps": 3})).await;
    assert_eq!(text(&line.result("call_1").await), "finished");
    let chunks: Vec<_> = line
        .kept()
        .iter()
        .filter(|frame| frame["type"] == "CHUNK" && frame["req_id"] == "call_1")
        .map(|frame| frame["payload"]["data"].as_str().unwrap())
        .collect();
    assert_eq!(chunks.len(), 3, "{chunks:?}");
    assert!(chunks[2].contains("step 3"), "{chunks:?}");
}

#[tokio::test]
async fn a_killed_child_is_restarted_and_its_call_says_so() {
    let (_bridge, agent, mut line) = online("").await;
    line.invoke("call_1", "exit", json!({})).await;
    let ended = line.result("call_1").await;
    assert_eq!(ended["error"]["code"], "upstream_exited", "{ended}");
    assert!(ended["exit_code"].is_i64(), "{ended}");
    line.invoke("call_2", "echo", json!({"message": "again"}))
        .await;
    assert_eq!(text(&line.result("call_2").await), "again");
    eventually("the restart is counted", || async {
        (agent.status().await["servers"][0]["restarts"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_list_that_changed_is_told_with_a_risen_generation() {
    let bridge = ScriptedBridge::start().await;
    let mut agent = Agent::new(&bridge.url(), "");
    agent.start();
    let mut line = bridge.admit(json!({})).await;
    let before = line.tools(|tools| has_tool(tools, "echo")).await;
    line.invoke("call_1", "grow", json!({})).await;
    line.result("call_1").await;
    let after = line.tools(|tools| has_tool(tools, "grown_0")).await;
    assert!(after["generation"].as_u64() > before["generation"].as_u64());
}

#[tokio::test]
async fn a_call_of_a_killed_agent_is_disconnected_and_never_run_again() {
    let (bridge, mut agent, mut line) = online("").await;
    let arguments = json!({"line": "once", "steps": 600});
    let ack = line.invoke("call_1", "slow_bump", arguments.clone()).await;
    assert_eq!(ack["accepted"], true, "{ack}");
    line.wait("CHUNK", Some("call_1")).await;
    let children = processes_below(agent.pid());
    assert!(
        children.len() >= 2,
        "a supervisor and the server: {children:?}"
    );
    assert_eq!(agent.end(Signal::SIGKILL).await, None);
    wait_until_gone(&children).await;

    agent.start();
    let mut line = bridge.admit(json!({"deliver": ["call_1"]})).await;
    assert_eq!(line.hello["resume"]["results"], json!(["call_1"]));
    let result = line.wait("RESULT", Some("call_1")).await;
    assert_eq!(
        result["payload"]["error"]["code"], "disconnected",
        "{result}"
    );
    let again = line.invoke("call_1", "slow_bump", arguments).await;
    assert_eq!(
        (&again["duplicate"], &again["state"]),
        (&json!(true), &json!("finished"))
    );
    assert_eq!(line.result("call_1").await["error"]["code"], "disconnected");
    // Everything else goes on, and the call had no effect, neither the first time nor after.
    line.tools(|tools| has_tool(tools, "echo")).await;
    line.invoke("call_2", "bump", json!({"line": "other"}))
        .await;
    assert_eq!(line.result("call_2").await["ok"], true);
    assert_eq!(agent.effects(), ["other"]);
}

#[tokio::test]
async fn a_result_without_a_line_outlives_the_agent() {
    let (bridge, mut agent, mut line) = online("").await;
    let arguments = json!({"line": "done", "steps": 4});
    line.invoke("call_1", "slow_bump", arguments.clone()).await;
    line.cut();
    agent.wait_for_effect("done").await;
    let spool = agent.home().join("state/paperbot/agents");
    eventually("the result is on the disk", || async {
        let agents = std::fs::read_dir(&spool).ok()?;
        let log = agents.flatten().next()?.path().join("spool/spool.log");
        std::fs::read_to_string(log)
            .ok()?
            .contains("bumped")
            .then_some(())
    })
    .await;
    agent.end(Signal::SIGKILL).await;

    agent.start();
    let mut line = bridge.admit(json!({"deliver": ["call_1"]})).await;
    let result = line.wait("RESULT", Some("call_1")).await["payload"].clone();
    assert_eq!((text(&result), &result["ok"]), ("bumped", &json!(true)));
    let again = line.invoke("call_1", "slow_bump", arguments).await;
    assert_eq!(again["duplicate"], true, "{again}");
    assert_eq!(text(&line.result("call_1").await), "bumped");
    assert_eq!(agent.effects(), ["done"]);
    eventually("acknowledged, it is forgotten", || async {
        (agent.status().await["unacknowledged"] == 0).then_some(())
    })
    .await;
    agent.end(Signal::SIGKILL).await;
    agent.start();
    let line = bridge.admit(json!({})).await;
    assert_eq!(line.hello["resume"], json!({"running": [], "results": []}));
}

#[tokio::test]
async fn a_result_that_was_sent_and_not_acknowledged_outlives_the_agent() {
    let (bridge, mut agent, mut line) = online("").await;
    line.invoke("call_1", "bump", json!({"line": "done"})).await;
    line.wait("RESULT", Some("call_1")).await;
    agent.end(Signal::SIGKILL).await;

    agent.start();
    let mut line = bridge.admit(json!({"deliver": ["call_1"]})).await;
    assert_eq!(line.hello["resume"]["results"], json!(["call_1"]));
    let result = line.result("call_1").await;
    assert_eq!(result["ok"], true, "{result}");
    assert_eq!(agent.effects(), ["done"]);
}

#[tokio::test]
async fn a_running_call_survives_a_lost_line() {
    let (bridge, agent, mut line) = online("").await;
    line.invoke("call_1", "slow_bump", json!({"line": "done", "steps": 10}))
        .await;
    line.wait("CHUNK", Some("call_1")).await;
    line.cut();
    let mut line = bridge.admit(json!({"deliver": ["call_1"]})).await;
    assert_eq!(text(&line.result("call_1").await), "bumped");
    assert_eq!(agent.effects(), ["done"]);
}

#[tokio::test]
async fn a_deadline_passes_without_a_line_too() {
    let (bridge, agent, mut line) = online("").await;
    let call = ("slow", json!({"steps": 600}));
    line.invoke_within("call_1", Duration::from_millis(500), call)
        .await;
    line.cut();
    agent.wait_for_effect("slow cancelled").await;
    let mut line = bridge.admit(json!({"deliver": ["call_1"]})).await;
    let result = line.result("call_1").await;
    assert_eq!(result["error"]["code"], "timeout", "{result}");
}

#[tokio::test]
async fn a_cancelled_call_ends_and_its_server_hears_of_it() {
    let (_bridge, agent, mut line) = online("").await;
    line.invoke("call_1", "slow", json!({"steps": 600})).await;
    line.send("CANCEL", Some("call_1"), json!({"reason": "test"}))
        .await;
    let ack = line.wait("CANCEL_ACK", Some("call_1")).await;
    assert_eq!(ack["payload"]["will_cancel"], true, "{ack}");
    let result = line.result("call_1").await;
    assert_eq!(
        (&result["canceled"], &result["error"]["code"]),
        (&json!(true), &json!("canceled"))
    );
    agent.wait_for_effect("slow cancelled").await;
}

#[tokio::test]
async fn an_agent_that_is_told_to_end_leaves_nothing_behind() {
    let (_bridge, mut agent, mut line) = online("").await;
    let children = processes_below(agent.pid());
    assert!(!children.is_empty());
    line.invoke("call_1", "slow_bump", json!({"line": "done", "steps": 10}))
        .await;
    let ending = agent.end(Signal::SIGTERM);
    let saying = async {
        line.wait("GOODBYE", None).await;
        line.result("call_1").await
    };
    let (code, result) = tokio::join!(ending, saying);
    assert_eq!((code, text(&result)), (Some(0), "bumped"));
    wait_until_gone(&children).await;
    assert_eq!(agent.status().await["state"], "stopped");
}

#[tokio::test]
async fn two_agents_of_one_state_are_one_too_many() {
    let (_bridge, agent, _line) = online("").await;
    let config = agent.config();
    let second = agent
        .cli(&["agent", "run", "--config", &config])
        .output()
        .await
        .unwrap();
    assert_eq!(second.status.code(), Some(10), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("runs already"));
}

#[tokio::test]
async fn an_agent_with_nothing_to_do_does_nothing() {
    let (bridge, agent, line) = online("").await;
    // On the line, and without one while nobody answers its dial.
    for line in [Some(line), None] {
        let before = cpu_ticks(agent.pid());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = cpu_ticks(agent.pid()) - before;
        assert!(used < 20, "{used} hundredths of a second");
        drop(line);
    }
    drop(bridge);
}
