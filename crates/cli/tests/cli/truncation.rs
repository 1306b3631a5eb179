//! Not a terminal: at most 16 KiB, never cut silently, and JSON stays JSON.

use serde_json::{Value, json};

use crate::bridge::{Bridge, done};
use crate::program::Program;

const CAP: usize = 16 * 1024;

#[test]
fn a_long_text_is_cut_and_the_whole_is_kept() {
    let long = "é123456789\n".repeat(10_000);
    let bridge = Bridge::saying(200, done(&long));
    let program = Program::with(&bridge);
    let stdout = program.run(&["call", "a.b"]).ok();
    let last = stdout.lines().last().unwrap();
    let (shown, rest) = last
        .strip_prefix("[truncated ")
        .unwrap()
        .split_once('/')
        .unwrap();
    let (total, path) = rest.split_once(" bytes; full: ").unwrap();
    let shown: usize = shown.parse().unwrap();
    assert!(shown <= CAP && shown > CAP - 4, "{last}");
    assert_eq!(total.parse::<usize>().unwrap(), long.len());
    let path = path.strip_suffix(']').unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), long);
    assert!(long.starts_with(&stdout[..shown]));
}

#[cfg(unix)]
#[test]
fn what_is_kept_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let bridge = Bridge::saying(200, done(&"x".repeat(CAP + 1)));
    let program = Program::with(&bridge);
    program.run(&["call", "a.b"]).ok();
    let results = program.home.path().join(".local/state/paperbot/results");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&results), 0o700);
    let file = std::fs::read_dir(&results)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(mode(&file.path()), 0o600);
}

#[test]
fn long_json_stays_valid_and_says_where_the_rest_is() {
    let bridge = Bridge::saying(200, done(&"\"quoted\"\n".repeat(10_000)));
    let program = Program::with(&bridge);
    let stdout = program.run(&["call", "a.b", "--json"]).ok();
    assert!(stdout.len() <= CAP, "{}", stdout.len());
    let read: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&read["truncated"], &read["ok"], &read["call_id"]),
        (&json!(true), &json!(true), &json!("call_0199"))
    );
    let whole = std::fs::read_to_string(read["path"].as_str().unwrap()).unwrap();
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["content"][0]["text"].as_str().unwrap().len(), 90_000);
}

#[test]
fn long_json_lines_are_cut_between_documents() {
    let items: Vec<Value> = (0..2000)
        .map(|n| json!({"ref": format!("a.tool-{n}"), "kind": "tool"}))
        .collect();
    let bridge = Bridge::saying(
        200,
        json!({"catalog_hash": "a", "items": items, "servers": []}),
    );
    let stdout = Program::with(&bridge).run(&["find", "--jsonl"]).ok();
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.last().unwrap()["truncated"], true);
    assert!(lines.len() > 100 && lines.len() < 2000, "{}", lines.len());
}

#[test]
fn the_cap_is_the_users() {
    let bridge = Bridge::saying(200, done(&"x".repeat(40_000)));
    let program = Program::with(&bridge);
    assert_eq!(
        program.run(&["call", "a.b", "--max-bytes", "0"]).ok().len(),
        40_001
    );
    let stdout = program.run(&["call", "a.b", "--max-bytes", "100"]).ok();
    assert!(
        stdout.contains("\n[truncated 100/40001 bytes; full: "),
        "{stdout}"
    );
}
