//! A modern client of the bridge's MCP face: one request, one answer, and what the server asks back.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};
use testkit::{Bridge, Reply};

const REVISION: &str = "2026-07-28";
/// More rounds than any scenario has.
const MAX_ROUNDS: usize = 5;

/// `/mcp/{server}` of one bridge.
pub(crate) struct Face<'a> {
    bridge: &'a Bridge,
    path: String,
    next_id: AtomicU64,
}

/// The message with this id, from a JSON body or from a stream of events.
fn answer_of(reply: &Reply, id: u64) -> Value {
    let text = reply.text();
    let messages = text
        .lines()
        .map(|line| line.strip_prefix("data:").unwrap_or(line))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut answers = messages.filter(|message| message["id"] == id);
    answers.next().unwrap_or_default()
}

/// What somebody who accepts everything would answer: each field's default, or a plain value.
fn accepted(schema: &Value) -> Value {
    let mut content = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let plain = match field["type"].as_str() {
            Some("boolean") => json!(true),
            Some("integer" | "number") => json!(1),
            _ => json!("some"),
        };
        let value = field.get("default").cloned().unwrap_or(plain);
        content.insert(name.clone(), value);
    }
    json!({"action": "accept", "content": content})
}

impl<'a> Face<'a> {
    /// The face of one server.
    pub(crate) fn new(bridge: &'a Bridge, server: &str) -> Self {
        Self {
            bridge,
            path: format!("/mcp/{server}"),
            next_id: AtomicU64::new(1),
        }
    }

    /// The result of one request, or its error.
    pub(crate) async fn request(&self, method: &str, mut params: Value) -> Value {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo": {"name": "conformance-client", "version": "1.0.0"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}}
        });
        let name = params["name"].as_str().unwrap_or_default().to_owned();
        let mut headers = vec![
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", REVISION),
            ("mcp-method", method),
        ];
        if !name.is_empty() {
            headers.push(("mcp-name", &name));
        }
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let line = format!("POST {}", self.path);
        let reply = self.bridge.send_with(&line, &headers, Some(body)).await;
        let answer = answer_of(&reply, id);
        match answer.get("result") {
            Some(result) => result.clone(),
            None => json!({"status": reply.status.as_u16(), "said": reply.text()}),
        }
    }

    /// Answers what a call asks back until it ends.
    pub(crate) async fn answered(&self, method: &str, params: &Value, first: Value) -> Value {
        let mut result = first;
        for _ in 0..MAX_ROUNDS {
            if result["resultType"] != "input_required" {
                break;
            }
            let mut again = params.clone();
            let questions = result["inputRequests"].as_object();
            let answers = questions.into_iter().flatten().map(|(key, question)| {
                let schema = &question["params"]["requestedSchema"];
                (key.clone(), accepted(schema))
            });
            again["inputResponses"] = Value::Object(answers.collect());
            if let Some(state) = result.get("requestState") {
                again["requestState"] = state.clone();
            }
            result = self.request(method, again).await;
        }
        result
    }
}
