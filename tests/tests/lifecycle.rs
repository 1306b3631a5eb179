//! A call's life through the real daemon: progress, cancellation, keys, crashes, changes upstream.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testkit::upstreams::{self, Upstream};
use testkit::{Bridge, eventually};

/// The fixture server over stdio, writing its effects into a file.
fn fixture(effects: &Path) -> Upstream {
    let mut upstream = upstreams::fixture("legacy");
    let options = format!(
        "\"stdio\", \"--era\", \"legacy\", \"--effects\", {:?}]",
        effects.display().to_string()
    );
    upstream.yaml = upstream.yaml.replace("\"stdio\"]", &options);
    upstream
}

async fn start() -> (Bridge, tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let effects = folder.path().join("effects");
    let bridge = Bridge::start(vec![fixture(&effects)]).await;
    bridge.wait_for_ref("fixture.echo").await;
    (bridge, folder, effects)
}

fn lines(effects: &Path) -> Vec<String> {
    std::fs::read_to_string(effects)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The names of the events in a server-sent stream.
fn names(stream: &str) -> Vec<&str> {
    stream
        .lines()
        .filter_map(|line| {
            line.strip_prefix("event: ")
                .or_else(|| line.strip_prefix("event:"))
        })
        .collect()
}

#[tokio::test]
async fn progress_streams_in_order_and_the_result_is_last() {
    let (bridge, _folder, _effects) = start().await;
    let body = json!({"ref": "fixture.slow", "arguments": {"steps": 4}});
    let reply = bridge
        .send_with(
            "POST /v1/calls",
            &[("accept", "text/event-stream")],
            Some(body),
        )
        .await;
    let stream = reply.text();
    let names = names(&stream);
    assert_eq!(names.last(), Some(&"tool_result"), "{stream}");
    assert_eq!(
        names.iter().filter(|name| **name == "tool_log").count(),
        4,
        "{stream}"
    );
    let steps: Vec<_> = (1..=4)
        .map(|step| stream.find(&format!("step {step}")).unwrap())
        .collect();
    assert!(steps.is_sorted(), "{stream}");
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_upstream() {
    let (bridge, _folder, effects) = start().await;
    let body = json!({"ref": "fixture.slow", "arguments": {"steps": 500}});
    let accepted = bridge
        .send_with("POST /v1/calls", &[("prefer", "respond-async")], Some(body))
        .await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let path = accepted.headers["location"].to_str().unwrap().to_owned();
    eventually("the upstream runs it", || async {
        (bridge.get(&path).await["state"] == "running").then_some(())
    })
    .await;
    let cancelled = bridge.send("POST", &format!("{path}/cancel"), None).await;
    assert!(cancelled.status.is_success(), "{}", cancelled.text());
    eventually("the upstream was told", || async {
        lines(&effects)
            .contains(&"slow cancelled".to_owned())
            .then_some(())
    })
    .await;
    assert_eq!(bridge.get(&path).await["state"], "cancelled");
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_its_call_upstream() {
    let (bridge, _folder, effects) = start().await;
    let calling = bridge.post(
        "/v1/calls",
        json!({"ref": "fixture.slow", "arguments": {"steps": 500}}),
    );
    let gave_up = tokio::time::timeout(std::time::Duration::from_millis(500), calling).await;
    assert!(
        gave_up.is_err(),
        "twenty-five seconds of work were still going on"
    );
    eventually("the upstream was told", || async {
        lines(&effects)
            .contains(&"slow cancelled".to_owned())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn twenty_identical_calls_under_one_key_have_one_effect() {
    let (bridge, _folder, effects) = start().await;
    let call = || async {
        let body = json!({"ref": "fixture.bump", "arguments": {"line": "once"}});
        bridge
            .send_with("POST /v1/calls", &[("idempotency-key", "k-1")], Some(body))
            .await
    };
    let replies = futures(20, call).await;
    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{:?}",
        replies.iter().map(testkit::Reply::text).collect::<Vec<_>>()
    );
    assert_eq!(lines(&effects), ["once"]);
    let ids: std::collections::BTreeSet<_> = replies
        .iter()
        .map(|reply| reply.json()["call_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    let other = json!({"ref": "fixture.bump", "arguments": {"line": "twice"}});
    let mismatch = bridge
        .send_with("POST /v1/calls", &[("idempotency-key", "k-1")], Some(other))
        .await;
    assert_eq!(
        (mismatch.status.as_u16(), mismatch.json()["code"].as_str()),
        (422, Some("idempotency_mismatch"))
    );
}

/// Runs several requests at once.
async fn futures<F: Future<Output = testkit::Reply>>(
    count: usize,
    make: impl Fn() -> F,
) -> Vec<testkit::Reply> {
    let mut running: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    let mut replies = Vec::new();
    std::future::poll_fn(|context| {
        running.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(reply) => {
                replies.push(reply);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    replies
}

#[tokio::test]
async fn a_changed_list_shows_as_a_delta_and_an_event() {
    let (bridge, _folder, _effects) = start().await;
    let before = bridge.get("/v1/catalog?limit=500").await["catalog_hash"]
        .as_str()
        .unwrap()
        .to_owned();
    bridge
        .post("/v1/calls", json!({"ref": "fixture.grow", "arguments": {}}))
        .await;
    bridge.wait_for_ref("fixture.grown_0").await;
    let delta = bridge.get(&format!("/v1/catalog?since={before}")).await;
    assert!(
        delta["added"].to_string().contains("fixture.grown_0"),
        "{delta}"
    );
    let history = bridge
        .get("/v1/events/history?types=catalog_changed&limit=100")
        .await;
    assert!(history.to_string().contains("grown_0"), "{history}");
}

#[tokio::test]
async fn a_killed_server_comes_back_and_its_call_is_told() {
    let (bridge, _folder, _effects) = start().await;
    bridge
        .post(
            "/v1/calls",
            json!({"ref": "fixture.echo", "arguments": {"message": "x"}}),
        )
        .await;
    let sessions = bridge.get("/v1/sessions").await;
    let id = sessions["items"][0]["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let inspected = bridge.get(&format!("/v1/sessions/{id}")).await;
    let pid = i32::try_from(
        inspected["process"]["pid"]
            .as_i64()
            .unwrap_or_else(|| panic!("{inspected}")),
    )
    .unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("the next call works", || async {
        let body = json!({"ref": "fixture.echo", "arguments": {"message": "again"}});
        let reply = bridge.send("POST", "/v1/calls", Some(body)).await;
        (reply.status == 200).then_some(())
    })
    .await;
    let after = bridge.get(&format!("/v1/sessions/{id}")).await;
    assert_eq!(after["reconnects"], 1, "{after}");
}

#[tokio::test]
async fn a_killed_bridge_leaves_no_process_and_knows_what_it_does_not_know() {
    let (mut bridge, _folder, effects) = start().await;
    let kept = json!({"ref": "fixture.bump", "arguments": {"line": "kept"}});
    let first = bridge
        .send_with(
            "POST /v1/calls",
            &[("idempotency-key", "kept")],
            Some(kept.clone()),
        )
        .await
        .json();
    let id = bridge.get("/v1/sessions").await["items"][0]["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let pid = bridge.get(&format!("/v1/sessions/{id}")).await["process"]["pid"]
        .as_i64()
        .unwrap();
    let body = json!({"ref": "fixture.slow_bump", "arguments": {"line": "cut off", "steps": 500}});
    let accepted = bridge
        .send_with("POST /v1/calls", &[("prefer", "respond-async")], Some(body))
        .await;
    let path = accepted.headers["location"].to_str().unwrap().to_owned();
    bridge.crash_and_restart().await;
    eventually("the server's process is gone", || async {
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
    assert_eq!(bridge.get(&path).await["state"], "outcome_unknown");
    bridge.wait_for_ref("fixture.bump").await;
    let again = bridge
        .send_with("POST /v1/calls", &[("idempotency-key", "kept")], Some(kept))
        .await
        .json();
    assert_eq!(
        (&again["call_id"], &again["replayed"]),
        (&first["call_id"], &json!(true)),
        "{again}"
    );
    assert_eq!(lines(&effects), ["kept"]);
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_zero() {
    let (mut bridge, _folder, _effects) = start().await;
    bridge
        .post(
            "/v1/calls",
            json!({"ref": "fixture.echo", "arguments": {"message": "x"}}),
        )
        .await;
    bridge.signal(Signal::SIGTERM);
    assert_eq!(bridge.wait_exit().await, Some(0));
}

#[tokio::test]
async fn a_streamed_call_is_told_to_its_end_while_the_bridge_shuts_down() {
    let (mut bridge, _folder, effects) = start().await;
    let body = json!({"ref": "fixture.slow_bump", "arguments": {"line": "streamed", "steps": 100}});
    let asked = bridge.send_with(
        "POST /v1/calls",
        &[("accept", "text/event-stream")],
        Some(body),
    );
    let ends = async {
        eventually("the call runs", || async {
            let calls = bridge.get("/v1/calls?ref=fixture.slow_bump").await;
            (calls["items"][0]["state"] == "running").then_some(())
        })
        .await;
        bridge.signal(Signal::SIGTERM);
    };
    let (reply, ()) = tokio::join!(asked, ends);
    let stream = reply.text();
    assert_eq!(names(&stream).last(), Some(&"tool_result"), "{stream}");
    assert!(stream.contains(r#""ok":true"#), "{stream}");
    assert_eq!(lines(&effects), ["streamed"]);
    assert_eq!(bridge.wait_exit().await, Some(0));
}

#[tokio::test]
async fn the_cli_finds_explains_calls_and_reports_with_its_exit_codes() {
    let (bridge, _folder, effects) = start().await;
    let found = bridge.cli(&["find", "add two numbers", "-n", "1"]).await;
    assert_eq!(
        (found.code, found.stdout.trim()),
        (0, "fixture.add(a: number, b: number)  Adds two numbers.")
    );
    let sum = bridge.cli(&["call", "fixture.add", "a=19", "b=23"]).await;
    assert_eq!((sum.code, sum.stdout.trim()), (0, "42"));
    let wrong = bridge.cli(&["call", "fixture.add", "a=1"]).await;
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.stderr.contains("(a: number, b: number)"),
        "{}",
        wrong.stderr
    );
    assert_eq!(bridge.cli(&["call", "fixture.fail"]).await.code, 5);
    let unknown = bridge.cli(&["call", "fixture.ad", "a=1", "b=2"]).await;
    assert_eq!(unknown.code, 6);
    assert!(
        unknown.stderr.contains("fixture.add"),
        "did you mean: {}",
        unknown.stderr
    );
    assert_eq!(
        bridge
            .cli(&["read", "fixture", "fixture://note"])
            .await
            .stdout
            .trim(),
        "a note"
    );
    assert!(
        bridge
            .cli(&["prompt", "fixture.greet", "who=Ann"])
            .await
            .stdout
            .contains("Greet Ann.")
    );
    assert_eq!(bridge.cli(&["doctor"]).await.code, 0);

    let mut child = bridge
        .cli_command(&["call", "fixture.slow", "steps=500"])
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    eventually("the call runs", || async {
        let calls = bridge.get("/v1/calls?ref=fixture.slow").await;
        let live = bridge.get("/v1/sessions").await;
        (live["items"][0]["in_flight"].as_i64() > Some(0)
            || calls["items"][0]["state"] == "running")
            .then_some(())
    })
    .await;
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    let status = child.wait().await.unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(lines(&effects).contains(&"slow cancelled".to_owned()));
}
