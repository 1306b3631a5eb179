//! `find` and `help`: one line for each entry, within the budget.

use serde_json::{Value, json};

use crate::bridge::{Bridge, Reply};
use crate::program::Program;

fn item(reference: &str, shape: &str, summary: &str) -> Value {
    let (server, name) = reference.split_once('.').unwrap();
    json!({
        "ref": reference, "kind": "tool", "server": server, "name": name, "summary": summary,
        "shape": shape, "hash": "1f3c9a000000", "score": 0.5,
        "hints": {"read_only": true, "destructive": false, "idempotent": true, "open_world": false},
    })
}

/// The tools of the reference server, as the bridge summarises them.
fn catalogue() -> Value {
    let items = [
        (
            "everything.echo",
            "(message)",
            "Echoes back the input string",
        ),
        (
            "everything.get-annotated-message",
            "(messageType: \"error\"|\"success\"|\"debug\", includeImage?: boolean = false)",
            "Demonstrates how annotations can be used to provide metadata about content.",
        ),
        (
            "everything.get-env",
            "()",
            "Returns all environment variables, helpful for debugging MCP server configuration",
        ),
        (
            "everything.get-resource-links",
            "(count?: number<1..10> = 3)",
            "Returns up to ten resource links that reference different types of resources",
        ),
        (
            "everything.get-resource-reference",
            "(resourceType?: \"Text\"|\"Blob\" = \"Text\", resourceId?: number = 1)",
            "Returns a resource reference that can be used by MCP clients",
        ),
        (
            "everything.get-structured-content",
            "(location: \"New York\"|\"Chicago\"|\"Los Angeles\")",
            "Returns structured content along with an output schema for client data validation",
        ),
        (
            "everything.get-sum",
            "(a: number, b: number)",
            "Returns the sum of two numbers",
        ),
        (
            "everything.get-tiny-image",
            "()",
            "Returns a tiny MCP logo image.",
        ),
        (
            "everything.gzip-file-as-resource",
            "(name?, data?, outputType?: \"resourceLink\"|\"resource\")",
            "Compresses a single file using gzip compression.",
        ),
        (
            "everything.toggle-simulated-logging",
            "()",
            "Toggles simulated, random-leveled logging on or off.",
        ),
    ];
    let items: Vec<Value> = items
        .iter()
        .map(|(reference, shape, summary)| item(reference, shape, summary))
        .collect();
    json!({"catalog_hash": "abcdef012345", "items": items, "next_cursor": null, "servers": [
        {"server": "everything", "state": "ready", "era": "legacy", "tools": 10}]})
}

#[test]
fn ten_tools_of_the_fixed_catalogue_fit_the_budget() {
    let bridge = Bridge::saying(200, catalogue());
    let stdout = Program::with(&bridge).run(&["find", "-n", "10"]).ok();
    assert_eq!(stdout.lines().count(), 10);
    assert!(stdout.len() <= 1228, "{} bytes", stdout.len());
    insta::assert_snapshot!(stdout.lines().nth(6).unwrap(), @"everything.get-sum(a: number, b: number)  Returns the sum of two numbers");
}

#[test]
fn words_queries_and_filters_reach_the_bridge() {
    let bridge = Bridge::saying(200, catalogue());
    let program = Program::with(&bridge);
    program
        .run(&[
            "find",
            "sum",
            "two",
            "-q",
            "send mail",
            "-s",
            "everything",
            "-k",
            "tool",
            "-k",
            "prompt",
            "-n",
            "3",
            "--names",
        ])
        .ok();
    let seen = bridge.wait_for("GET /v1/catalog");
    assert_eq!(seen.queries("q"), ["sum two", "send mail"]);
    assert_eq!(seen.queries("server"), ["everything"]);
    assert_eq!(seen.queries("kind"), ["tool,prompt"]);
    assert_eq!(seen.queries("limit"), ["3"]);
    assert_eq!(seen.queries("fields"), ["names"]);
    assert_eq!(seen.header("authorization"), Some("Bearer pb_test_token"));
}

#[test]
fn names_json_and_json_lines() {
    let bridge = Bridge::saying(200, catalogue());
    let program = Program::with(&bridge);
    let names = program.run(&["find", "--names"]).ok();
    assert_eq!(names.lines().next(), Some("everything.echo"));
    let whole: Value = serde_json::from_str(&program.run(&["find", "--json"]).ok()).unwrap();
    assert_eq!(whole["catalog_hash"], "abcdef012345");
    let lines = program.run(&["--jsonl", "find"]).ok();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (lines.lines().count(), &first["ref"]),
        (10, &json!("everything.echo"))
    );
}

#[test]
fn nothing_fits_is_an_empty_answer_and_a_note() {
    let bridge = Bridge::saying(
        200,
        json!({"catalog_hash": "a", "items": [], "next_cursor": null, "nothing_fits": true, "servers": []}),
    );
    let program = Program::with(&bridge);
    let ended = program.run(&["find", "fly to the moon"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert!(ended.stderr.contains("nothing fits"), "{ended:?}");
    let quiet = program.run(&["-q", "find", "fly to the moon"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
}

#[test]
fn a_delta_is_marked_line_by_line() {
    let bridge = Bridge::saying(
        200,
        json!({"catalog_hash": "b", "next_cursor": null, "servers": [],
        "added": [item("a.new", "()", "New")], "changed": [item("a.other", "(x)", "")], "removed": ["a.gone"]}),
    );
    let stdout = Program::with(&bridge).run(&["find", "--since", "a"]).ok();
    assert_eq!(stdout, "+ a.new()  New\n~ a.other(x)\n- a.gone\n");
}

#[test]
fn a_summary_cannot_break_its_line() {
    let bridge = Bridge::saying(
        200,
        json!({"catalog_hash": "b", "next_cursor": null, "servers": [],
        "items": [item("a.b", "()", "one\ntwo\u{1b}[31m three")]}),
    );
    let stdout = Program::with(&bridge).run(&["find"]).ok();
    assert_eq!(stdout, "a.b()  one two\\u{1b}[31m three\n");
}

#[test]
fn a_server_that_is_down_is_told_beside_the_answer() {
    let mut body = catalogue();
    body["servers"] = json!([{"server": "github", "state": "down", "tools": 0, "last_error": "x"}]);
    let bridge = Bridge::saying(200, body);
    let ended = Program::with(&bridge).run(&["find"]);
    assert!(ended.stderr.contains("server github is down"), "{ended:?}");
}

fn help_answer() -> Value {
    json!({"items": [
        {"ref": "everything.get-sum", "hash": "1f3c9a000000", "shape": "(a: number, b: number)",
         "description": "Returns the sum of two numbers", "example": {"a": 1, "b": 2},
         "hints": {"read_only": true, "destructive": false, "idempotent": true, "open_world": false},
         "input_schema": {"type": "object", "properties": {"a": {"type": "number"}}}},
        {"ref": "everything.wide", "hash": "2", "shape": "(a, …)", "input_schema": {"type": "object"}},
        {"ref": "x.same", "unchanged": true, "hash": "3"},
        {"ref": "x.nope", "missing": true, "near": ["x.note"]},
    ]})
}

#[test]
fn help_shows_the_signature_and_the_schema_only_where_it_says_more() {
    let bridge = Bridge::saying(200, help_answer());
    let program = Program::with(&bridge);
    let stdout = program
        .run(&["help", "everything.get-sum", "x/same", "--if-hash", "3"])
        .ok();
    insta::assert_snapshot!(stdout, @r#"
    everything.get-sum(a: number, b: number)  read-only  hash:1f3c9a000000
    Returns the sum of two numbers
    example: paperbot-mcp call everything.get-sum '{"a":1,"b":2}'

    everything.wide(a, …)  writes  hash:2
    input_schema: {"type":"object"}

    x.same unchanged
    x.nope not found; did you mean x.note?; `paperbot-mcp find WORDS` lists what there is
    "#);
    let seen = bridge.wait_for("GET /v1/tools/help");
    assert_eq!(seen.queries("ref"), ["everything.get-sum", "x.same"]);
    assert_eq!(seen.queries("if_hash"), ["3"]);
    let schema = program
        .run(&["get_tool_help", "everything.get-sum", "--schema"])
        .ok();
    assert!(schema.contains("input_schema: {\"properties\""), "{schema}");
}

#[test]
fn help_without_a_ref_is_the_programs_own() {
    let stdout = Program::alone().run(&["help"]).ok();
    assert!(
        stdout.contains("paperbot-mcp call demo.add a=1 b=2"),
        "{stdout}"
    );
}

#[test]
fn operation_names_and_old_habits_work_as_verbs() {
    let bridge = Bridge::answering(|seen| match seen.path.as_str() {
        "/v1/catalog" => Reply::Json(200, catalogue()),
        _ => Reply::Json(200, json!({"items": [], "next_cursor": null})),
    });
    let program = Program::with(&bridge);
    for verb in ["find", "list", "tools", "list_catalog"] {
        assert_eq!(program.run(&[verb]).ok().lines().count(), 10, "{verb}");
    }
    program.run(&["list_sessions"]).ok();
    program.run(&["list_resource_templates"]).ok();
    let routes = bridge.routes();
    assert_eq!(
        &routes[4..],
        ["GET /v1/sessions", "GET /v1/resource-templates"]
    );
}
