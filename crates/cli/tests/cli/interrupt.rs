//! Ctrl-C reaches the server: the connection is dropped, the call cancelled, its end waited for.
#![cfg(unix)]

use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bridge::{Bridge, Reply, Seen, problem};
use crate::program::{Ended, Program};

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
}

/// A bridge whose call never ends by itself and whose list knows it by the trace of its request.
fn bridge(on_post: impl Fn() -> Reply + Send + Sync + 'static, ended: Value) -> Bridge {
    let trace = std::sync::Mutex::new(String::new());
    Bridge::answering(move |seen: &Seen| match seen.route().as_str() {
        "POST /v1/calls" => {
            seen.trace_id().clone_into(&mut trace.lock().unwrap());
            on_post()
        }
        "GET /v1/calls" => Reply::Json(
            200,
            json!({"next_cursor": null, "items": [
                {"call_id": "call_other", "ref": "a.slow", "state": "running", "trace_id": "0"},
                {"call_id": "call_mine", "ref": "a.slow", "state": "running", "trace_id": trace.lock().unwrap().clone()},
            ]}),
        ),
        "POST /v1/calls/call_mine/cancel" => {
            Reply::Json(202, json!({"call_id": "call_mine", "state": "running"}))
        }
        "GET /v1/calls/call_mine" => Reply::Json(200, ended.clone()),
        other => panic!("{other} was not expected"),
    })
}

fn cancelled() -> Value {
    let mut error = problem("cancelled", 409);
    error["executed"] = json!("unknown");
    json!({"call_id": "call_mine", "ref": "a.slow", "state": "cancelled", "trace_id": "t", "error": error})
}

#[test]
fn a_plain_call_is_dropped_cancelled_and_its_end_told() {
    let bridge = bridge(|| Reply::Silence, cancelled());
    let program = Program::with(&bridge);
    let child = program
        .command(&["call", "a.slow", "--idempotency-key", "k1"])
        .spawn()
        .unwrap();
    bridge.wait_for("POST /v1/calls");
    interrupt(&child);
    bridge.wait_for_hangup();
    bridge.wait_for("POST /v1/calls/call_mine/cancel");
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (130, ""), "{ended:?}");
    let error = ended.error();
    assert_eq!(
        (&error["code"], &error["executed"]),
        (&json!("cancelled"), &json!("unknown"))
    );
    assert_eq!(error["message"], "the call ended as cancelled");
    assert_eq!(
        bridge.wait_for("GET /v1/calls").queries("idempotency_key"),
        ["k1"]
    );
}

#[test]
fn a_streamed_call_is_cancelled_by_the_id_its_events_told() {
    let started = json!({"id": "1", "type": "tool_status", "ts": "t", "call_id": "call_mine", "req_id": "call_mine", "data": {"state": "running"}});
    let bridge = bridge(
        move || Reply::EventsThenSilence(vec![started.clone()]),
        cancelled(),
    );
    let program = Program::with(&bridge);
    let mut child = program
        .command(&["call", "a.slow", "--stream", "--jsonl"])
        .spawn()
        .unwrap();
    // The first event on stdout says that the program knows the id.
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert!(line.contains("call_mine"), "{line}");
    interrupt(&child);
    bridge.wait_for("POST /v1/calls/call_mine/cancel");
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(!bridge.routes().contains(&"GET /v1/calls".to_owned()));
}

#[test]
fn a_call_that_ended_all_the_same_says_that_it_ran() {
    let ended = json!({"call_id": "call_mine", "ref": "a.slow", "state": "succeeded", "trace_id": "t",
        "result": {"is_error": false, "content": []}});
    let bridge = bridge(|| Reply::Silence, ended);
    let program = Program::with(&bridge);
    let child = program.command(&["call", "a.slow"]).spawn().unwrap();
    bridge.wait_for("POST /v1/calls");
    interrupt(&child);
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(
        (ended.code, ended.error()["executed"].as_str()),
        (130, Some("yes"))
    );
}

#[test]
fn a_second_interrupt_leaves_at_once() {
    let running =
        json!({"call_id": "call_mine", "ref": "a.slow", "state": "running", "trace_id": "t"});
    let bridge = bridge(|| Reply::Silence, running);
    let program = Program::with(&bridge);
    let child = program.command(&["call", "a.slow"]).spawn().unwrap();
    bridge.wait_for("POST /v1/calls");
    interrupt(&child);
    bridge.wait_for("GET /v1/calls/call_mine");
    interrupt(&child);
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 130);
    assert_eq!(
        ended.error()["message"],
        "left before the call's end was known"
    );
}

#[test]
fn following_events_ends_well_at_an_interrupt() {
    let event = json!({"id": "12af", "type": "session_ready", "ts": "t", "session_id": "ses_1", "data": {}});
    let bridge = Bridge::answering(move |_| Reply::EventsThenSilence(vec![event.clone()]));
    let program = Program::with(&bridge);
    let mut child = program
        .command(&["events", "--follow", "--after", "0"])
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "12af  t  session_ready  session_id=ses_1  {}\n");
    interrupt(&child);
    assert!(child.wait().unwrap().success());
    assert_eq!(bridge.wait_for("GET /v1/events").queries("after"), ["0"]);
}

#[test]
fn following_events_ends_when_nobody_reads_any_more() {
    let events = (0..20_000)
        .map(|id| json!({"id": id.to_string(), "type": "session_ready", "ts": "t", "data": {}}))
        .collect::<Vec<_>>();
    let bridge = Bridge::answering(move |_| Reply::EventsThenSilence(events.clone()));
    let program = Program::with(&bridge);
    let mut child = program.command(&["events", "--follow"]).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
