//! An MCP server over stdio whose effects can be counted: `chaos-server FILE` appends one line to FILE for every
//! call it did, and one to `FILE.begun` for every call it began, so that a test sees what ran twice or half.
//!
//! Plain threads and blocking writes: nothing here can be shared with what is tested.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

/// Longest `slow` call, so that a forgotten test cannot hold a process for ever.
const MAX_SLOW: Duration = Duration::from_mins(2);
/// Most log text of one `noisy` call, in bytes.
const MAX_NOISE_BYTES: u64 = 256 * 1024 * 1024;
/// JSON-RPC "method not found".
const NO_SUCH_METHOD: i64 = -32601;
/// JSON-RPC "invalid params".
const BAD_PARAMS: i64 = -32602;

/// Where effects are written.
struct Effects {
    done: PathBuf,
    begun: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let done = std::env::args_os()
        .nth(1)
        .ok_or("usage: chaos-server FILE")?;
    let done = PathBuf::from(done);
    let begun = done.with_added_extension("begun");
    let effects = Arc::new(Effects { done, begun });
    for line in io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        // A call that was cancelled is done all the same: its caller must be told that it may have been.
        let Some(id) = message.get("id").cloned() else {
            continue;
        };
        let params = message["params"].clone();
        match message["method"].as_str().unwrap_or_default() {
            // Each on a thread of its own: a slow call holds no other up. The agent bounds how many there are.
            "tools/call" => {
                let effects = Arc::clone(&effects);
                std::thread::spawn(move || say(&answer(&id, call(&effects, &params))));
            }
            method => say(&answer(&id, told(method))),
        }
    }
    Ok(())
}

type Outcome = Result<Value, (i64, String)>;

fn answer(id: &Value, outcome: Outcome) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
}

/// One line, whole: threads take turns. Nobody reading is the end of this process anyway.
fn say(message: &Value) {
    let mut line = message.to_string();
    line.push('\n');
    let mut out = io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

fn told(method: &str) -> Outcome {
    match method {
        "initialize" => Ok(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": "chaos", "version": "1.0.0"},
        })),
        "ping" | "logging/setLevel" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": [
            tool("quick", &json!({"line": {"type": "string"}})),
            tool("slow", &json!({"line": {"type": "string"}, "ms": {"type": "integer"}})),
            tool("noisy", &json!({
                "line": {"type": "string"}, "messages": {"type": "integer"}, "bytes": {"type": "integer"},
            })),
        ]})),
        other => Err((NO_SUCH_METHOD, format!("no method {other}"))),
    }
}

fn tool(name: &str, properties: &Value) -> Value {
    let required: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    json!({
        "name": name, "description": "Appends a line, then answers.",
        "inputSchema": {"type": "object", "properties": properties, "required": required},
        "annotations": {"readOnlyHint": false, "destructiveHint": true, "idempotentHint": false},
    })
}

fn call(effects: &Effects, params: &Value) -> Outcome {
    let arguments = &params["arguments"];
    let line = arguments["line"].as_str().unwrap_or_default();
    let number = |name: &str| arguments[name].as_u64().unwrap_or_default();
    append(&effects.begun, line)?;
    match params["name"].as_str().unwrap_or_default() {
        "quick" => {}
        "slow" => wait(Duration::from_millis(number("ms"))),
        "noisy" => noise(number("messages"), number("bytes"))?,
        other => return Err((BAD_PARAMS, format!("no tool {other}"))),
    }
    append(&effects.done, line)?;
    Ok(json!({"content": [{"type": "text", "text": format!("did {line}")}]}))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, and no runtime to block"
)]
fn wait(time: Duration) {
    std::thread::sleep(time.min(MAX_SLOW));
}

fn noise(messages: u64, bytes: u64) -> Result<(), (i64, String)> {
    let size = usize::try_from(bytes).unwrap_or(usize::MAX);
    if messages.saturating_mul(bytes) > MAX_NOISE_BYTES {
        return Err((BAD_PARAMS, "too much noise".to_owned()));
    }
    let text = "x".repeat(size);
    for number in 0..messages {
        let params =
            json!({"level": "info", "logger": "noise", "data": format!("{number} {text}")});
        say(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}));
    }
    Ok(())
}

/// One write for the whole line: lines of several processes do not mix.
fn append(path: &Path, line: &str) -> Result<(), (i64, String)> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    written.map_err(|error| (-32603, error.to_string()))
}
