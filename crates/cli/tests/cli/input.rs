//! `calls input`: questions a call waits for, in words, and answers as the bridge takes them.

use serde_json::{Value, json};

use crate::bridge::{Bridge, Reply, Seen, problem};
use crate::program::Program;

fn form() -> Value {
    json!({"key": "ask-1", "method": "elicitation/create", "params": {"message": "Who are\nyou?", "requestedSchema":
        {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "description": "Your name"},
            "zip": {"type": "string"},
            "age": {"type": "integer"},
            "size": {"type": "string", "enum": ["s", "m"]}}}}})
}

fn link() -> Value {
    json!({"key": "go", "method": "elicitation/create", "params": {"mode": "url", "message": "Sign in", "url": "https://x/y"}})
}

fn sampling() -> Value {
    json!({"key": "think", "method": "sampling/createMessage", "params": {"maxTokens": 9, "messages":
        [{"role": "user", "content": {"type": "text", "text": "hm"}}]}})
}

fn view(questions: &[Value]) -> Value {
    let state = if questions.is_empty() {
        "running"
    } else {
        "input_required"
    };
    json!({"call_id": "call_1", "state": state, "ref": "a.b", "trace_id": "t", "input_requests": questions})
}

fn waiting(questions: Vec<Value>) -> Bridge {
    Bridge::answering(move |seen: &Seen| match seen.route().as_str() {
        "GET /v1/calls/call_1" => Reply::Json(200, view(&questions)),
        "POST /v1/calls/call_1/input" => Reply::Json(202, view(&[])),
        other => panic!("{other} was not expected"),
    })
}

#[test]
fn the_one_form_is_filled_by_its_schema() {
    let bridge = waiting(vec![form(), sampling()]);
    let program = Program::with(&bridge);
    let ended = program.run(&["calls", "input", "call_1", "name=Ann", "zip=01234", "age=7"]);
    assert_eq!(
        ended.stdout, "call_1  running  a.b  trace_id=t\n",
        "{ended:?}"
    );
    assert!(ended.stderr.contains("calls wait call_1"), "{ended:?}");
    assert_eq!(
        bridge.wait_for("POST /v1/calls/call_1/input").json(),
        json!({"responses": {"ask-1": {"action": "accept", "content": {"name": "Ann", "zip": "01234", "age": 7}}}})
    );
}

#[test]
fn whole_answers_and_refusals_go_by_key() {
    let bridge = waiting(vec![form(), link(), sampling()]);
    let program = Program::with(&bridge);
    let answer =
        r#"think:={"role":"assistant","content":{"type":"text","text":"1.50"},"model":"m"}"#;
    program
        .run(&[
            "calls",
            "input",
            "call_1",
            answer,
            "--decline",
            "go",
            "--cancel",
            "ask-1",
            "--json",
        ])
        .ok();
    let sent = bridge.wait_for("POST /v1/calls/call_1/input").json();
    assert_eq!(
        sent["responses"],
        json!({"go": {"action": "decline"}, "ask-1": {"action": "cancel"},
            "think": {"role": "assistant", "content": {"type": "text", "text": "1.50"}, "model": "m"}})
    );
}

#[test]
fn questions_are_shown_with_the_way_to_answer_them() {
    let bridge = waiting(vec![form(), link(), sampling()]);
    let stdout = Program::with(&bridge).run(&["calls", "get", "call_1"]).ok();
    insta::assert_snapshot!(stdout, @r#"
    call_1  input_required  a.b  trace_id=t
    question ask-1 (elicitation/create) Who are you?
      age?: integer
      name: string Your name
      size?: "s"|"m"
      zip?: string
      answer: paperbot-mcp calls input call_1 age=… name=… size=… zip=… (or --decline ask-1, --cancel ask-1)
    question go (elicitation/create) Sign in
      open https://x/y
      answer: paperbot-mcp calls input call_1 go:='{"action":"accept"}' (or --decline go, --cancel go)
    question think (sampling/createMessage)
      maxTokens: 9
      messages: [{"content":{"text":"hm","type":"text"},"role":"user"}]
      answer: paperbot-mcp calls input call_1 think:='{"role":"assistant","content":{"type":"text","text":"…"},"model":"…"}'
    "#);
}

#[test]
fn answers_that_fit_no_question_are_refused_before_anything_is_sent() {
    let bridge = waiting(vec![form(), sampling()]);
    let program = Program::with(&bridge);
    let cases: [(&[&str], &str, &str); 6] = [
        (&[], "say what to answer", "ask-1 (elicitation/create)"),
        (
            &["name=A", "nam=B"],
            "no field `nam`",
            "name: string Your name",
        ),
        (&["age=7"], "wants `name`", "age?: integer"),
        (&["--decline", "think"], "no question to a user", ""),
        (
            &["--cancel", "nope"],
            "nothing called `nope`",
            "think (sampling/createMessage)",
        ),
        (&["name=A", "--decline", "ask-1"], "answered twice", ""),
    ];
    for (answers, message, hint) in cases {
        let ended = program.run(&[&["calls", "input", "call_1"], answers].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
        let error = ended.error();
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{error}"
        );
        assert!(
            error["hint"].as_str().unwrap_or_default().contains(hint),
            "{error}"
        );
    }
    let two = waiting(vec![
        form(),
        json!({"key": "b", "method": "elicitation/create", "params": {}}),
    ]);
    let ended = Program::with(&two).run(&["calls", "input", "call_1", "name=A"]);
    assert!(
        ended.error()["message"]
            .as_str()
            .unwrap()
            .contains("not exactly one"),
        "{ended:?}"
    );
    assert!(
        !bridge
            .routes()
            .iter()
            .any(|route| route.starts_with("POST"))
    );
}

#[test]
fn a_call_that_waits_for_nothing_is_a_conflict_whoever_notices() {
    let bridge = waiting(Vec::new());
    let ended = Program::with(&bridge).run(&["calls", "input", "call_1", "a=1"]);
    assert_eq!(
        (ended.code, ended.error()["code"].as_str()),
        (10, Some("conflict"))
    );
    let bridge = Bridge::answering(|seen: &Seen| match seen.method.as_str() {
        "GET" => Reply::Json(200, view(&[form()])),
        _ => Reply::Json(409, problem("conflict", 409)),
    });
    let ended = Program::with(&bridge).run(&["calls", "input", "call_1", "name=A"]);
    assert_eq!(
        (ended.code, ended.error()["code"].as_str()),
        (10, Some("conflict"))
    );
}

#[test]
fn a_streamed_call_that_is_asked_says_how_to_answer() {
    let event = |id: u8, kind: &str, data: Value| json!({"id": id.to_string(), "type": kind, "ts": "t", "call_id": "call_1", "req_id": "call_1", "data": data});
    let events = vec![
        event(1, "tool_status", json!({"state": "running"})),
        event(
            2,
            "tool_status",
            json!({"state": "input_required", "input_requests": [form()]}),
        ),
        event(
            3,
            "tool_result",
            json!({"ok": true, "result_json": {"content": [{"type": "text", "text": "hi"}]}}),
        ),
    ];
    let bridge = Bridge::answering(move |_| Reply::Events(events.clone()));
    let ended = Program::with(&bridge).run(&["call", "a.b", "--stream"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "hi\n"),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("question ask-1 (elicitation/create) Who are you?"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("calls input call_1 age=…"),
        "{ended:?}"
    );
}
