//! `call`: what is sent, and what of the answer is printed.

use serde_json::{Value, json};

use crate::bridge::{Bridge, Reply, done};
use crate::program::Program;

#[test]
fn text_content_alone_is_printed() {
    let bridge = Bridge::saying(200, done("The sum of 1 and 2 is 3."));
    let ended = Program::with(&bridge).run(&[
        "call",
        "everything.echo",
        "message=hi",
        "--lane",
        "l1",
        "--timeout",
        "60s",
        "--confirm",
        "tok",
        "--idempotency-key",
        "k1",
    ]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "The sum of 1 and 2 is 3.\n", "")
    );
    let seen = bridge.wait_for("POST /v1/calls");
    assert_eq!(
        seen.json(),
        json!({"ref": "everything.echo", "arguments": {"message": "hi"}, "lane": "l1", "timeout_ms": 60000, "confirm_token": "tok"})
    );
    assert_eq!(seen.header("idempotency-key"), Some("k1"));
    assert_eq!(seen.trace_id().len(), 32);
}

#[test]
fn an_agent_that_is_named_runs_the_call_and_no_other_schema_is_taken_for_its_own() {
    let bridge = Bridge::saying(200, done("hi"));
    let ended =
        Program::with(&bridge).run(&["call", "files.look", "n=1", "m:=2", "--agent", "my-laptop"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // The first request already is the call: no schema was asked for.
    assert_eq!(
        bridge.wait_for("POST /v1/calls").json(),
        json!({"ref": "files.look", "arguments": {"n": 1, "m": 2}, "agent_id": "my-laptop"})
    );
    assert_eq!(bridge.seen().len(), 1);
}

#[test]
fn json_keeps_every_digit_the_server_sent() {
    let body = r#"{"call_id":"call_1","trace_id":"t","is_error":false,"content":[{"type":"text","text":"x"}],
        "structured_content":{"z":12345678901234567890123,"a":1.50},"duration_ms":3,"replayed":false}"#;
    let bridge = Bridge::answering(move |_| Reply::Text(200, body.to_owned()));
    let stdout = Program::with(&bridge).run(&["call", "a.b", "--json"]).ok();
    assert!(
        stdout.contains(r#""structured_content":{"z":12345678901234567890123,"a":1.50}"#),
        "{stdout}"
    );
    let read: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&read["ok"], &read["call_id"], &read["duration_ms"]),
        (&json!(true), &json!("call_1"), &json!(3))
    );
    assert_eq!(stdout.lines().count(), 1);
}

#[test]
fn a_tool_error_prints_its_text_and_exits_5() {
    let mut body = done("disk full");
    body["is_error"] = json!(true);
    let bridge = Bridge::saying(200, body);
    let ended = Program::with(&bridge).run(&["call", "a.b"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (5, "disk full\n"));
    let error = ended.error();
    assert_eq!(
        (&error["code"], &error["executed"], &error["call_id"]),
        (&json!("tool_error"), &json!("yes"), &json!("call_0199"))
    );
}

#[test]
fn binary_content_goes_to_a_file_whose_path_is_printed() {
    let mut body = done("before");
    body["content"] = json!([
        {"type": "text", "text": "before"},
        {"type": "image", "data": "iVBORw==", "mimeType": "image/png"},
        {"type": "resource", "resource": {"uri": "x://y", "text": "inside"}},
        {"type": "resource_link", "uri": "x://z", "name": "z"},
    ]);
    let bridge = Bridge::saying(200, body);
    let program = Program::with(&bridge);
    let stdout = program.run(&["call", "a.b"]).ok();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        (lines[0], lines[2], lines[3]),
        ("before", "inside", "x://z")
    );
    let path = std::path::Path::new(lines[1]);
    assert!(path.starts_with(program.home.path().join(".local/state/paperbot/results")));
    assert_eq!(path.extension().unwrap(), "png");
    assert_eq!(std::fs::read(path).unwrap(), [0x89, b'P', b'N', b'G']);
}

#[test]
fn structured_content_is_printed_when_there_is_no_other() {
    let mut body = done("");
    body["content"] = json!([]);
    body["structured_content"] = json!({"sum": 3});
    let bridge = Bridge::saying(200, body);
    assert_eq!(
        Program::with(&bridge).run(&["call", "a.b"]).ok(),
        "{\"sum\":3}\n"
    );
}

#[test]
fn an_async_call_prints_its_id_and_wait_shows_the_result() {
    let bridge = Bridge::answering(|seen| match seen.method.as_str() {
        "POST" => Reply::With(
            202,
            "location",
            "/v1/calls/call_7",
            json!({"call_id": "call_7", "trace_id": "t", "state": "dispatched"}),
        ),
        _ => Reply::Json(
            200,
            json!({"call_id": "call_7", "ref": "a.b", "state": "succeeded", "trace_id": "t",
            "result": {"is_error": false, "content": [{"type": "text", "text": "late"}]}}),
        ),
    });
    let program = Program::with(&bridge);
    assert_eq!(program.run(&["call", "a.b", "--async"]).ok(), "call_7\n");
    assert_eq!(
        bridge.wait_for("POST /v1/calls").header("prefer"),
        Some("respond-async")
    );
    assert_eq!(program.run(&["calls", "wait", "call_7"]).ok(), "late\n");
    let seen = bridge.wait_for("GET /v1/calls/call_7");
    assert_eq!(seen.queries("wait_ms"), ["20000"]);
}

#[test]
fn a_failed_call_looked_up_later_has_its_own_exit_code() {
    let bridge = Bridge::saying(
        200,
        json!({"call_id": "call_7", "ref": "a.b", "state": "outcome_unknown", "trace_id": "t",
        "error": crate::bridge::problem("outcome_unknown", 504)}),
    );
    let ended = Program::with(&bridge).run(&["calls", "get", "call_7"]);
    assert_eq!(ended.code, 8);
    assert_eq!(ended.error()["call_id"], "call_7");
}

#[test]
fn a_dry_run_shows_the_decision_and_sends_the_wish() {
    let bridge = Bridge::saying(
        200,
        json!({"dry_run": true, "trace_id": "t", "ref": "a.b", "schema_hash": "h1",
        "decision": "confirm", "preview": "deletes x", "read_only": false}),
    );
    let stdout = Program::with(&bridge)
        .run(&["call", "a.b", "--dry-run"])
        .ok();
    assert_eq!(
        stdout,
        "nothing was sent; decision=confirm read_only=false schema_hash=h1\ndeletes x\n"
    );
    assert_eq!(bridge.wait_for("POST /v1/calls").json()["dry_run"], true);
}

fn event(id: u64, kind: &str, data: &Value) -> Value {
    json!({"id": format!("{id:016x}"), "type": kind, "ts": "2026-01-01T00:00:00Z", "call_id": "call_9", "req_id": "call_9", "data": data})
}

fn streaming() -> Bridge {
    Bridge::answering(|seen| match seen.method.as_str() {
        "POST" => Reply::Events(vec![
            event(
                1,
                "tool_status",
                &json!({"req_id": "call_9", "state": "running"}),
            ),
            event(
                2,
                "tool_log",
                &json!({"channel": "stdout", "data": "{\"progress\":1,\"total\":2,\"message\":\"half\"}"}),
            ),
            event(
                3,
                "tool_log",
                &json!({"channel": "stderr", "data": "a log line"}),
            ),
            event(4, "tool_result", &json!({"req_id": "call_9", "ok": true})),
        ]),
        _ => Reply::Json(
            200,
            json!({"call_id": "call_9", "ref": "a.b", "state": "succeeded", "trace_id": "t",
            "result": {"is_error": false, "content": [{"type": "text", "text": "streamed"}]}}),
        ),
    })
}

#[test]
fn a_streamed_call_shows_progress_beside_the_answer() {
    let bridge = streaming();
    let ended = Program::with(&bridge).run(&["call", "a.b", "--stream"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "streamed\n"),
        "{ended:?}"
    );
    assert_eq!(ended.stderr, "progress 1/2 half\na log line\n");
    let accept = bridge
        .wait_for("POST /v1/calls")
        .header("accept")
        .unwrap()
        .to_owned();
    assert!(accept.starts_with("text/event-stream"), "{accept}");
}

#[test]
fn a_streamed_call_as_json_lines_is_one_event_a_line() {
    let bridge = streaming();
    let stdout = Program::with(&bridge)
        .run(&["call", "a.b", "--stream", "--jsonl"])
        .ok();
    let kinds: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(
        kinds,
        ["tool_status", "tool_log", "tool_log", "tool_result"]
    );
}

#[test]
fn a_result_that_stands_in_the_last_event_needs_no_further_request() {
    let bridge = Bridge::answering(|_| {
        let log = "{\"level\":\"info\",\"data\":\"looking\"}";
        Reply::Events(vec![
            event(1, "tool_log", &json!({"channel": "stderr", "data": log})),
            event(
                2,
                "tool_result",
                &json!({"req_id": "call_9", "ok": false, "result_json":
                {"isError": true, "content": [{"type": "text", "text": "no disk"}], "structuredContent": {"n": 1}}}),
            ),
        ])
    });
    let program = Program::with(&bridge);
    let ended = program.run(&["call", "a.b", "--stream"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (5, "no disk\n"),
        "{ended:?}"
    );
    assert!(ended.stderr.starts_with("looking\n"), "{ended:?}");
    let json = program.run(&["call", "a.b", "--stream", "--json"]);
    let read: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&read["ok"], &read["structured_content"]),
        (&json!(false), &json!({"n": 1}))
    );
    assert_eq!(bridge.routes(), ["POST /v1/calls", "POST /v1/calls"]);
}

#[test]
fn a_streamed_call_that_fails_has_the_failures_exit_code() {
    let bridge = Bridge::answering(|seen| match seen.method.as_str() {
        "POST" => Reply::Events(vec![event(
            1,
            "tool_result",
            &json!({"req_id": "call_9", "ok": false,
            "error": {"code": "upstream_timeout", "detail": "too slow", "executed": "unknown"}}),
        )]),
        _ => Reply::Json(404, crate::bridge::problem("call_not_found", 404)),
    });
    let ended = Program::with(&bridge).run(&["call", "a.b", "--stream"]);
    assert_eq!(
        (ended.code, ended.error()["message"].as_str()),
        (8, Some("too slow"))
    );
}
