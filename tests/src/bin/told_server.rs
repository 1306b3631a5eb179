//! An MCP server over stdio that offers whatever tools stand in a file, and says when they change.
//!
//! `told-server TOOLS.json EFFECTS`: the file holds the list of tool definitions; each call appends the tool's name
//! to the effects, so that tests can count what really reached it. A tool named `hang` never answers.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

/// Between two looks at the file.
const LOOK: Duration = Duration::from_millis(50);

fn main() {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (Some(tools), Some(effects)) = (arguments.next(), arguments.next()) else {
        eprintln!("told-server TOOLS.json EFFECTS");
        std::process::exit(2);
    };
    let watched = tools.clone();
    // Ends with the process.
    std::thread::spawn(move || watch(&watched));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(answer) = answer(&message, &tools, &effects) {
            say(&answer);
        }
    }
}

fn say(message: &Value) {
    let mut out = std::io::stdout().lock();
    // A reader that is gone ends us by the end of stdin.
    let _ = writeln!(out, "{message}");
    let _ = out.flush();
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, in a program without a runtime"
)]
fn watch(tools: &Path) {
    let read = || std::fs::read(tools).unwrap_or_default();
    let mut known = read();
    loop {
        std::thread::sleep(LOOK);
        let now = read();
        if now != known && serde_json::from_slice::<Value>(&now).is_ok() {
            known = now;
            say(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
        }
    }
}

fn answer(message: &Value, tools: &Path, effects: &Path) -> Option<Value> {
    let id = message.get("id")?;
    let method = message.get("method")?.as_str()?;
    let result = match method {
        "initialize" => json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "told-server", "version": "1"},
        }),
        "ping" => json!({}),
        "tools/list" => {
            let text = std::fs::read_to_string(tools).unwrap_or_default();
            let listed: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!([]));
            json!({ "tools": listed })
        }
        "tools/call" => {
            let name = message.pointer("/params/name")?.as_str()?;
            if name == "hang" {
                return None;
            }
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(effects)
                .ok()?;
            let _ = writeln!(file, "{name}");
            json!({"content": [{"type": "text", "text": name}]})
        }
        _ => {
            let error = json!({"code": -32601, "message": "Method not found"});
            return Some(json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}
