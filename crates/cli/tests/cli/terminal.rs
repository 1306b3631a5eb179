//! On a terminal: untrusted text cannot give it orders, errors are words, nothing is cut.
#![cfg(unix)]

use std::io::Read as _;

use nix::pty::openpty;
use serde_json::json;

use crate::bridge::{Bridge, done, problem};
use crate::program::Program;

/// Everything the program wrote to its terminal.
fn on_a_terminal(program: &Program, arguments: &[&str]) -> String {
    let pty = openpty(None, None).unwrap();
    let mut command = program.command(arguments);
    command
        .stdout(pty.slave.try_clone().unwrap())
        .stderr(pty.slave);
    let mut child = command.spawn().unwrap();
    // The command holds the terminal's other ends; reading ends only when they are gone.
    drop(command);
    let mut shown = Vec::new();
    let mut master = std::fs::File::from(pty.master);
    let mut part = [0; 4096];
    // Linux ends a terminal nobody holds with an error instead of zero bytes.
    while let Ok(count) = master.read(&mut part) {
        if count == 0 {
            break;
        }
        shown.extend_from_slice(&part[..count]);
    }
    child.wait().unwrap();
    String::from_utf8(shown).unwrap()
}

#[test]
fn control_characters_of_a_tool_are_shown_not_obeyed() {
    let bridge = Bridge::saying(200, done("a\u{1b}]0;owned\u{7}b\u{202e}c"));
    let program = Program::with(&bridge);
    let shown = on_a_terminal(&program, &["call", "a.b"]);
    assert_eq!(shown, "a\\u{1b}]0;owned\\u{7}b\\u{202e}c\r\n");
    let piped = program.run(&["call", "a.b"]).ok();
    assert_eq!(piped, "a\u{1b}]0;owned\u{7}b\u{202e}c\n");
}

#[test]
fn an_error_is_a_line_of_words() {
    let mut refusal = problem("tool_not_found", 404);
    refusal["hint"] = json!("did you mean a.c?\u{1b}[2J");
    let bridge = Bridge::saying(404, refusal);
    let shown = on_a_terminal(&Program::with(&bridge), &["call", "a.b"]);
    assert_eq!(
        shown,
        "error: what went wrong (tool_not_found); did you mean a.c?\\u{1b}[2J; trace 4bf92f3577b34da6a3ce929d0e0e4736\r\n"
    );
}

#[test]
fn nothing_is_cut() {
    let bridge = Bridge::saying(200, done(&"x".repeat(40_000)));
    let shown = on_a_terminal(&Program::with(&bridge), &["call", "a.b"]);
    assert_eq!(shown.len(), 40_002);
}
