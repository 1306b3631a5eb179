//! Arguments: the tool's schema decides, standard input never hangs.

use std::process::Stdio;

use serde_json::json;

use crate::bridge::{Bridge, Reply, done, problem};
use crate::program::Program;

fn help(hash: &str, kind: &str) -> Reply {
    Reply::Json(
        200,
        json!({"items": [{"ref": "geo.find", "hash": hash, "shape": "(zip)",
        "input_schema": {"type": "object", "properties": {"zip": {"type": kind}, "n": {"type": "integer"}}}}]}),
    )
}

#[test]
fn a_zip_code_stays_a_string_and_a_number_becomes_one() {
    let bridge = Bridge::answering(|seen| match seen.method.as_str() {
        "GET" => help("h1", "string"),
        _ => Reply::Json(200, done("ok")),
    });
    let program = Program::with(&bridge);
    program
        .run(&["call", "geo.find", "zip=12345", "n=7", "tags:=[1,\"a\"]"])
        .ok();
    let sent = bridge.wait_for("POST /v1/calls").json();
    assert_eq!(
        sent["arguments"],
        json!({"zip": "12345", "n": 7, "tags": [1, "a"]})
    );
    assert_eq!(sent["schema_hash"], "h1");
}

#[test]
fn the_schema_is_asked_for_only_when_it_matters_and_only_once() {
    let bridge = Bridge::answering(|seen| match seen.method.as_str() {
        "GET" => help("h1", "string"),
        _ => Reply::Json(200, done("ok")),
    });
    let program = Program::with(&bridge);
    program.run(&["call", "geo.find", "zip=abc"]).ok();
    assert_eq!(bridge.routes(), ["POST /v1/calls"]);
    program.run(&["call", "geo.find", "zip=1"]).ok();
    program.run(&["call", "geo.find", "zip=2"]).ok();
    assert_eq!(
        bridge.routes()[1..],
        ["GET /v1/tools/help", "POST /v1/calls", "POST /v1/calls"]
    );
}

#[test]
fn a_kept_schema_that_is_old_is_fetched_again_before_anything_runs() {
    let bridge = Bridge::answering(
        |seen| match (seen.method.as_str(), seen.body.contains("h2")) {
            ("GET", _) => help("h2", "integer"),
            (_, false) => Reply::Json(409, problem("schema_changed", 409)),
            (_, true) => Reply::Json(200, done("ok")),
        },
    );
    let program = Program::with(&bridge);
    program.run(&["call", "geo.find", "zip=1"]).ok();
    // What the program would have kept before the tool changed.
    let kept = std::fs::read_dir(program.home.path().join(".cache/paperbot/schemas")).unwrap();
    let kept = kept.map(|entry| entry.unwrap().path()).next().unwrap();
    let old = std::fs::read_to_string(&kept)
        .unwrap()
        .replace("h2", "h1")
        .replace("integer", "string");
    std::fs::write(&kept, old).unwrap();
    program.run(&["call", "geo.find", "zip=1"]).ok();
    let calls: Vec<_> = bridge
        .seen()
        .iter()
        .filter(|seen| seen.method == "POST")
        .map(super::bridge::Seen::json)
        .collect();
    assert_eq!(calls[1]["arguments"], json!({"zip": "1"}));
    assert_eq!(calls[1]["schema_hash"], "h1");
    assert_eq!(calls[2]["arguments"], json!({"zip": 1}));
    assert_eq!(calls[2]["schema_hash"], "h2");
}

#[test]
fn standard_input_is_the_arguments_when_there_are_no_others() {
    let bridge = Bridge::saying(200, done("ok"));
    let program = Program::with(&bridge);
    program
        .run_with_stdin(&["call", "a.b"], "{\"a\": 1.50}\n")
        .ok();
    program
        .run_with_stdin(&["call", "a.b", "-"], "{\"b\": 2}")
        .ok();
    program
        .run_with_stdin(&["call", "a.b", "c=3x"], "{\"ignored\": 2}")
        .ok();
    program.run(&["call", "a.b", "{\"d\":4}"]).ok();
    program.run(&["call", "a", "b", "e=x"]).ok();
    let bodies: Vec<String> = bridge.seen().into_iter().map(|seen| seen.body).collect();
    assert!(bodies[0].contains("{\"a\": 1.50}"), "{}", bodies[0]);
    assert!(bodies[1].contains("{\"b\": 2}"), "{}", bodies[1]);
    assert!(bodies[2].contains("{\"c\":\"3x\"}"), "{}", bodies[2]);
    assert!(bodies[3].contains("{\"d\":4}"), "{}", bodies[3]);
    assert!(bodies[4].contains("\"ref\":\"a.b\""), "{}", bodies[4]);
}

#[test]
fn an_idle_inherited_input_never_hangs_and_is_told_when_it_may_matter() {
    let mut refusal = problem("invalid_arguments", 422);
    refusal["hint"] = json!("b(x)");
    let bridge = Bridge::saying(422, refusal);
    let program = Program::with(&bridge);
    let mut child = program
        .command(&["call", "a.b"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let held_open = child.stdin.take();
    let ended: super::program::Ended = child.wait_with_output().unwrap().into();
    drop(held_open);
    assert_eq!(ended.code, 2);
    let hint = ended.error()["hint"].as_str().unwrap().to_owned();
    assert!(
        hint.starts_with("b(x) (standard input was open but empty"),
        "{hint}"
    );
}

#[test]
fn what_is_no_json_object_is_refused_before_anything_is_sent() {
    let bridge = Bridge::saying(200, done("ok"));
    let program = Program::with(&bridge);
    for (arguments, stdin, part) in [
        (vec!["call", "a.b"], "[1]", "must be a JSON object"),
        (vec!["call", "a.b"], "{oops", "is no JSON"),
        (vec!["call", "a.b", "loose"], "", "k=v"),
    ] {
        let ended = program.run_with_stdin(&arguments, stdin);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(
            ended.error()["message"].as_str().unwrap().contains(part),
            "{ended:?}"
        );
    }
    assert!(bridge.seen().is_empty());
}
