//! Calls through an agent: their words, their ends, and what is kept before it is acknowledged.

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use tokio::io::AsyncWriteExt as _;

use crate::agent::{Agent, a_moment, listed, ready, server, text_result, with_key};
use crate::kit::{Bridge, Reply, events, eventually, read_reply};

/// Begins a call that runs by itself.
async fn begin(bridge: &Bridge, body: &Value) -> String {
    let begun = bridge
        .send(
            "POST /v1/calls",
            &["prefer: respond-async"],
            &body.to_string(),
        )
        .await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    begun.json()["call_id"].as_str().unwrap().to_owned()
}

/// Begins a call whose answer is waited for on its connection.
async fn waiting(bridge: &Bridge, body: &Value) -> tokio::task::JoinHandle<Reply> {
    let request = bridge.request("POST /v1/calls", &[], &body.to_string());
    let mut stream = bridge.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::spawn(async move { read_reply(&mut stream).await })
}

async fn state(bridge: &Bridge, call: &str, wait_ms: u32) -> Value {
    bridge
        .get(&format!("/v1/calls/{call}?wait_ms={wait_ms}"))
        .await
        .json()
}

async fn told(bridge: &Bridge, call: &str) -> Vec<Value> {
    events(&bridge.get(&format!("/v1/calls/{call}/events")).await.text())
}

#[tokio::test]
async fn a_call_is_sent_acknowledged_told_of_and_ended_with_the_fields_of_the_tunnel() {
    let (bridge, mut agent, _) = ready().await;
    let call = begin(
        &bridge,
        &json!({"ref": "laptop-files.act", "arguments": {"path": "/x"}, "timeout_ms": 20000}),
    )
    .await;
    let (req_id, invoke) = agent.invoked().await;
    assert_eq!(req_id, call);
    assert_eq!(
        (&invoke["server"], &invoke["method"]),
        (&json!("files"), &json!("tools/call"))
    );
    assert_eq!(invoke["params"]["name"], "act");
    assert_eq!(invoke["params"]["arguments"], json!({"path": "/x"}));
    assert!(invoke["timeout_ms"].as_u64().unwrap() <= 20000);
    assert!(
        invoke["isolation_key"]
            .as_str()
            .unwrap()
            .starts_with("user:")
    );
    let progress =
        json!({"channel": "progress", "data": r#"{"progress":1,"total":2,"message":"half"}"#});
    agent.say("CHUNK", Some(&call), &progress).await;
    let log =
        json!({"channel": "stderr", "data": "a line", "dropped_bytes": 10, "dropped_lines": 2});
    agent.say("CHUNK", Some(&call), &log).await;
    let trailing = json!({"channel": "stderr", "data": "", "dropped_bytes": 5, "dropped_lines": 1});
    agent.say("CHUNK", Some(&call), &trailing).await;
    agent.result(&call, &text_result("done it")).await;
    let acknowledged = agent.expect("RESULT_ACK").await;
    assert_eq!(acknowledged["req_id"], call.as_str());
    let view = state(&bridge, &call, 0).await;
    assert_eq!(
        (&view["state"], &view["agent_id"]),
        (&json!("succeeded"), &json!("laptop"))
    );
    assert_eq!(view["result"]["content"][0]["text"], "done it");
    as_the_tunnel_tells(&bridge, &call).await;
    bridge.stop().await;
}

/// The events of that call.
async fn as_the_tunnel_tells(bridge: &Bridge, call: &str) {
    let events = told(bridge, call).await;
    for event in &events {
        assert_eq!(event["agent_id"], "laptop", "{event}");
        assert_eq!(event["data"]["agent_id"], "laptop", "{event}");
        assert_eq!(event["data"]["req_id"], call, "{event}");
    }
    let of = |kind: &str| -> Vec<&Value> {
        let these = events.iter().filter(|event| event["type"] == kind);
        these.map(|event| &event["data"]).collect()
    };
    let states: Vec<_> = of("tool_status")
        .iter()
        .map(|data| data["state"].clone())
        .collect();
    assert_eq!(states, ["sent", "acked", "running", "done"]);
    let logs = of("tool_log");
    assert_eq!(logs[0]["channel"], "stdout");
    assert!(
        logs[0]["data"].as_str().unwrap().contains("half"),
        "{logs:?}"
    );
    assert!(
        logs[1]["data"].as_str().unwrap().contains("a line"),
        "{logs:?}"
    );
    let lost = |field: &str| {
        logs.iter()
            .map(|log| log[field].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(
        (lost("dropped_bytes"), lost("dropped_lines")),
        (15, 3),
        "{logs:?}"
    );
    let result = of("tool_result")[0];
    assert_eq!(
        (&result["ok"], &result["exit_code"], &result["canceled"]),
        (&json!(true), &json!(0), &json!(false))
    );
    assert_eq!(result["result_json"]["content"][0]["text"], "done it");
    let kinds: Vec<_> = events.iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds.last().unwrap(), "tool_result", "{kinds:?}");
}

#[tokio::test]
async fn a_plain_reading_call_is_acknowledged_once_its_row_is_written() {
    let (bridge, mut agent, _) = ready().await;
    let asked = waiting(&bridge, &json!({"ref": "laptop-files.look"})).await;
    let (req_id, _) = agent.invoked().await;
    agent.result(&req_id, &text_result("seen")).await;
    assert_eq!(asked.await.unwrap().json()["content"][0]["text"], "seen");
    agent.expect("RESULT_ACK").await;
    let audit = bridge.get("/v1/audit?limit=50").await.text();
    assert!(audit.contains(&req_id), "{audit}");
    bridge.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_away_is_said_at_once_and_its_catalogue_stays_marked() {
    let (bridge, agent, token) = ready().await;
    agent.cut();
    let status = eventually("the agent is seen to be gone", || async {
        let view = bridge.get("/v1/agents/laptop").await.json();
        (view["status"] == "offline").then_some(view)
    })
    .await;
    assert!(status["last_seen_at"].is_string(), "{status}");
    for reference in ["laptop-files.look", "laptop-files.act"] {
        let keyed = bridge
            .send(
                "POST /v1/calls",
                &["idempotency-key: k1"],
                &json!({"ref": reference}).to_string(),
            )
            .await;
        assert_eq!(
            (keyed.status, keyed.code().as_str()),
            (502, "agent_offline"),
            "{}",
            keyed.text()
        );
        assert_eq!(
            (&keyed.json()["executed"], &keyed.json()["retryable"]),
            (&json!("no"), &json!(true))
        );
    }
    let stale = |page: &Value| {
        let item = page["items"]
            .as_array()?
            .iter()
            .find(|item| item["ref"] == "laptop-files.look")?;
        let of = page["servers"]
            .as_array()?
            .iter()
            .find(|one| one["server"] == "laptop-files")?;
        (item["stale"] == true && of["state"] == "stale" && of["stale_since"].is_string())
            .then_some(())
    };
    eventually("the catalogue is marked stale", || async {
        stale(&bridge.get("/v1/catalog?limit=500").await.json())
    })
    .await;
    and_back(&bridge, &token).await;
    bridge.stop().await;
}

/// A refused call has not used its key up.
async fn and_back(bridge: &Bridge, token: &str) {
    let mut agent = Agent::connect(bridge.address, "laptop", token).await;
    agent.tools(&[server("files")]).await;
    listed(bridge, &bridge.key, "laptop-files.look").await;
    let again = tokio::spawn({
        let request = bridge.request(
            "POST /v1/calls",
            &["idempotency-key: k1"],
            &json!({"ref": "laptop-files.act"}).to_string(),
        );
        let mut stream = bridge.connect().await;
        async move {
            stream.write_all(request.as_bytes()).await.unwrap();
            read_reply(&mut stream).await
        }
    });
    let (req_id, _) = agent.invoked().await;
    agent.result(&req_id, &text_result("ok")).await;
    assert_eq!(again.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_call_is_cancelled_from_rest_and_the_first_end_stands() {
    let (bridge, mut agent, _) = ready().await;
    let call = begin(&bridge, &json!({"ref": "laptop-files.act"})).await;
    agent.invoked().await;
    let cancel = format!("POST /v1/calls/{call}/cancel");
    let cancelled = bridge.send(&cancel, &[], "").await.json();
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(cancelled["error"]["executed"], "unknown");
    let cancel = agent.expect("CANCEL").await;
    assert_eq!(cancel["req_id"], call.as_str());
    agent
        .say("CANCEL_ACK", Some(&call), &json!({"will_cancel": true}))
        .await;
    // It had ended all the same: that changes nothing any more, and the agent may forget it.
    agent.result(&call, &text_result("too late")).await;
    agent.expect("RESULT_ACK").await;
    assert_eq!(state(&bridge, &call, 0).await["state"], "cancelled");
    let events = told(&bridge, &call).await;
    let result = &events.last().unwrap()["data"];
    assert_eq!(
        (&result["ok"], &result["canceled"]),
        (&json!(false), &json!(true))
    );
    let last = events
        .iter()
        .rfind(|event| event["type"] == "tool_status")
        .unwrap();
    assert_eq!(last["data"]["state"], "canceled");
    bridge.stop().await;
}

async fn last_status(bridge: &Bridge, call: &str) -> Value {
    let events = told(bridge, call).await;
    let mut statuses = events.into_iter();
    statuses
        .rfind(|event| event["type"] == "tool_status")
        .unwrap()
}

/// The tool, the agent's word for it, and what the call's reader is told: state, code, and whether it may have run.
type End = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Has a call end in each of these ways.
async fn ends(ways: &[End]) {
    let (bridge, mut agent, _) = ready().await;
    for (tool, word, state_name, code, executed) in ways {
        let call = begin(&bridge, &json!({"ref": format!("laptop-files.{tool}")})).await;
        agent.invoked().await;
        let payload = json!({"ok": false, "exit_code": null, "canceled": *word == "canceled",
            "error": {"code": word, "message": format!("it was {word}")}});
        agent.result(&call, &payload).await;
        agent.expect("RESULT_ACK").await;
        let view = state(&bridge, &call, 1000).await;
        assert_eq!(view["state"], *state_name, "{payload}: {view}");
        assert_eq!(
            (&view["error"]["code"], &view["error"]["executed"]),
            (&json!(code), &json!(executed)),
            "{payload}"
        );
        let status = last_status(&bridge, &call).await;
        let told = if *word == "canceled" {
            "canceled"
        } else {
            "error"
        };
        assert_eq!(status["data"]["state"], told, "{status}");
        let words = status["data"]["message"].is_string();
        assert_eq!(words, told == "error", "{status}");
    }
    bridge.stop().await;
}

// Few to a bridge: a server that fails too often is not called for a while.

#[tokio::test]
async fn every_way_to_fail_keeps_its_own_name() {
    let unknown = "outcome_unknown";
    let protocol = "upstream_protocol_error";
    ends(&[
        ("act", "timeout", unknown, unknown, "unknown"),
        (
            "look",
            "timeout",
            "timed_out",
            "upstream_timeout",
            "unknown",
        ),
        ("act", "disconnected", unknown, unknown, "unknown"),
        (
            "act",
            "upstream_exited",
            "failed",
            "upstream_exited",
            "unknown",
        ),
        ("act", "protocol_error", "failed", protocol, "unknown"),
    ])
    .await;
}

#[tokio::test]
async fn what_an_agent_stopped_or_never_began_keeps_its_own_name() {
    ends(&[
        ("act", "canceled", "cancelled", "cancelled", "unknown"),
        ("act", "tool_not_found", "failed", "tool_not_found", "no"),
        ("act", "rejected", "failed", "upstream_unreachable", "no"),
    ])
    .await;
}

#[tokio::test]
async fn what_a_server_says_itself_comes_through_as_its_own() {
    let (bridge, mut agent, _) = ready().await;
    // A tool that says it failed has a result.
    let call = begin(&bridge, &json!({"ref": "laptop-files.act"})).await;
    agent.invoked().await;
    let tool_error = json!({"ok": true, "exit_code": 0, "canceled": false, "result_json": {"content": [], "isError": true}});
    agent.result(&call, &tool_error).await;
    agent.expect("RESULT_ACK").await;
    let view = state(&bridge, &call, 1000).await;
    assert_eq!(
        (&view["state"], &view["result"]["is_error"]),
        (&json!("succeeded"), &json!(true))
    );
    let events = told(&bridge, &call).await;
    assert_eq!(events.last().unwrap()["data"]["ok"], false);
    // An error of the server itself comes back as such.
    let call = begin(&bridge, &json!({"ref": "laptop-files.act"})).await;
    agent.invoked().await;
    let rpc = json!({"ok": false, "exit_code": null, "canceled": false, "error": {"code": "protocol_error", "message": "no",
        "details": {"rpc": {"code": -32602, "message": "no such path"}}}});
    agent.result(&call, &rpc).await;
    agent.expect("RESULT_ACK").await;
    let view = state(&bridge, &call, 1000).await;
    assert_eq!(
        (&view["error"]["code"], &view["error"]["executed"]),
        (&json!("invalid_arguments"), &json!("no"))
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_deadline_passes_also_while_the_agent_is_away() {
    let (bridge, mut agent, token) = ready().await;
    let mut calls = Vec::new();
    for tool in ["look", "act"] {
        let body = json!({"ref": format!("laptop-files.{tool}"), "timeout_ms": 1200});
        calls.push(begin(&bridge, &body).await);
        agent.invoked().await;
    }
    agent.cut();
    for (call, state_name) in calls.iter().zip(["timed_out", "outcome_unknown"]) {
        let view = state(&bridge, call, 20_000).await;
        assert_eq!(view["state"], state_name, "{view}");
        assert_eq!(view["error"]["executed"], "unknown");
    }
    // The agent comes back with both: what runs is to be stopped, and neither end changes any more.
    let (runs, finished) = (calls[0].as_str(), calls[1].as_str());
    let mut back = Agent::resume(bridge.address, ("laptop", &token), &[runs], &[finished]).await;
    assert_eq!(back.welcome["resume"]["cancel"], json!([runs]));
    for call in [runs, finished] {
        back.result(call, &text_result("too late")).await;
        assert_eq!(back.expect("RESULT_ACK").await["req_id"], call);
    }
    assert_eq!(
        state(&bridge, finished, 0).await["state"],
        "outcome_unknown"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_lost_line_cancels_nothing_and_the_call_is_told_to_the_end() {
    let (bridge, mut agent, token) = ready().await;
    let call = begin(
        &bridge,
        &json!({"ref": "laptop-files.act", "timeout_ms": 60000}),
    )
    .await;
    agent.invoked().await;
    agent.cut();
    eventually("the agent is seen to be gone", || async {
        let view = bridge.get("/v1/agents/laptop").await.json();
        (view["status"] == "offline").then_some(())
    })
    .await;
    let running = state(&bridge, &call, 0).await;
    assert!(
        ["dispatched", "running"].contains(&running["state"].as_str().unwrap()),
        "{running}"
    );
    let mut back = Agent::resume(bridge.address, ("laptop", &token), &[&call], &[]).await;
    assert_eq!(back.welcome["resume"]["cancel"], json!([]));
    back.result(&call, &text_result("after the cut")).await;
    back.expect("RESULT_ACK").await;
    let view = state(&bridge, &call, 0).await;
    assert_eq!(view["result"]["content"][0]["text"], "after the cut");
    // A duplicate is acknowledged and changes nothing.
    back.result(&call, &text_result("again")).await;
    back.expect("RESULT_ACK").await;
    assert_eq!(state(&bridge, &call, 0).await, view);
    bridge.stop().await;
}

#[tokio::test]
async fn a_large_result_comes_in_parts_and_is_acknowledged_once_whole() {
    let (bridge, mut agent, _) = ready().await;
    let call = begin(&bridge, &json!({"ref": "laptop-files.act"})).await;
    agent.invoked().await;
    let words = "0123456789abcdef".repeat(3 * 64 * 1024);
    let whole = text_result(&words).to_string();
    let pieces: Vec<&[u8]> = whole.as_bytes().chunks(400 * 1024).collect();
    let parts = pieces.len();
    for (number, piece) in pieces.iter().enumerate() {
        let piece = std::str::from_utf8(piece).unwrap();
        let part = json!({"part": number + 1, "parts": parts, "data": piece});
        agent.result(&call, &part).await;
    }
    agent.expect("RESULT_ACK").await;
    let view = state(&bridge, &call, 0).await;
    assert_eq!(view["result"]["content"][0]["text"], words.as_str());
    let events = told(&bridge, &call).await;
    let result = &events.last().unwrap()["data"];
    assert_eq!(
        (&result["ok"], &result["result_json"]),
        (&json!(true), &Value::Null)
    );
    assert!(
        result["omitted_bytes"].as_u64().unwrap() > 3_000_000,
        "{result}"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_result_the_store_cannot_take_is_not_acknowledged_before_it_can() {
    let (bridge, mut agent, _) = ready().await;
    let call = begin(&bridge, &json!({"ref": "laptop-files.act"})).await;
    agent.invoked().await;
    // The row of the intent, and what else is under way, is written before the file is taken away.
    a_moment().await;
    let file = bridge.home.path().join("data/bridge.db");
    let mut thief = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    thief.execute("BEGIN IMMEDIATE").await.unwrap();
    agent.result(&call, &text_result("kept")).await;
    let ended = eventually("the caller has the result", || async {
        let view = state(&bridge, &call, 5000).await;
        (view["state"] == "succeeded").then_some(view)
    });
    let waited = tokio::time::timeout(std::time::Duration::from_secs(3), agent.next());
    let (_, early) = tokio::join!(ended, waited);
    assert!(
        early.is_err(),
        "acknowledged although nothing is kept: {early:?}"
    );
    thief.execute("ROLLBACK").await.unwrap();
    let acknowledged = agent.expect("RESULT_ACK").await;
    assert_eq!(acknowledged["req_id"], call.as_str());
    let mut reader = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    let row = sqlx::query_scalar::<_, String>("SELECT state FROM calls WHERE id = $1").bind(&call);
    assert_eq!(row.fetch_one(&mut reader).await.unwrap(), "succeeded");
    bridge.stop().await;
}

#[tokio::test]
async fn whoever_leaves_cancels_a_plain_call_and_the_agent_hears_of_it() {
    let (bridge, mut agent, _) = ready().await;
    let body = json!({"ref": "laptop-files.act"}).to_string();
    let mut stream = bridge.connect().await;
    let request = bridge.request("POST /v1/calls", &[], &body);
    stream.write_all(request.as_bytes()).await.unwrap();
    let (call, _) = agent.invoked().await;
    drop(stream);
    let cancel = agent.expect("CANCEL").await;
    assert_eq!(cancel["req_id"], call.as_str());
    let cancelled = eventually("the call is cancelled", || async {
        let view = state(&bridge, &call, 0).await;
        (view["state"] == "cancelled").then_some(view)
    })
    .await;
    assert_eq!(cancelled["error"]["executed"], "unknown");
    let failed = json!({"ok": false, "exit_code": null, "canceled": true, "error": {"code": "canceled", "message": "stopped"}});
    agent.result(&call, &failed).await;
    agent.expect("RESULT_ACK").await;
    let others = with_key(&bridge, &bridge.key, "GET /v1/agents/laptop", &Value::Null)
        .await
        .json();
    assert_eq!(others["in_flight"], 0);
    bridge.stop().await;
}

#[tokio::test]
async fn a_deleted_agent_ends_the_calls_it_runs() {
    let (bridge, mut agent, _) = ready().await;
    let call = begin(&bridge, &json!({"ref": "laptop-files.act"})).await;
    agent.invoked().await;
    let gone = bridge.send("DELETE /v1/agents/laptop", &[], "").await;
    assert_eq!(gone.status, 204);
    let view = state(&bridge, &call, 10_000).await;
    assert_eq!(view["state"], "outcome_unknown", "{view}");
    assert_eq!(agent.closed().await.code, Some(4401));
    bridge.stop().await;
}
