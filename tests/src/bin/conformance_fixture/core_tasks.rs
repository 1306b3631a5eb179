//! Tasks as the core of 2025-11-25 has them, for one tool: the SDK has dropped them, so they are put around it.
//!
//! `failing_job` says in its definition that it runs as a task only, and is refused without one.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

/// The tool that runs as a task only.
pub(crate) const TOOL: &str = "failing_job";
/// More than any message of the suite has.
const BODY_BYTES: usize = 1024 * 1024;
/// What the job takes.
const A_SECOND: Duration = Duration::from_secs(1);
/// The one task there is: it always runs, and always fails.
const TASK_ID: &str = "failing-job-1";

/// Answers what belongs to tasks, and lets the server's own answers tell of them.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let message: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let params = &message["params"];
    let (from, to) = match message["method"].as_str().unwrap_or_default() {
        "tools/call" if params["name"] == TOOL => return whole(&called(&message)),
        "tasks/get" | "tasks/cancel" if params["taskId"] == TASK_ID => {
            return whole(&result(&message, &task("working")));
        }
        "tasks/result" if params["taskId"] == TASK_ID => {
            tokio::time::sleep(A_SECOND).await;
            return whole(&result(&message, &failed()));
        }
        "initialize" => (
            r#""capabilities":{"#.to_owned(),
            r#""capabilities":{"tasks":{"cancel":{},"requests":{"tools":{"call":{}}}},"#.to_owned(),
        ),
        "tools/list" => {
            let name = format!(r#""name":"{TOOL}","#);
            let more = format!(r#"{name}"execution":{{"taskSupport":"required"}},"#);
            (name, more)
        }
        _ => return next.run(Request::from_parts(head, Body::from(bytes))).await,
    };
    let answer = next.run(Request::from_parts(head, Body::from(bytes))).await;
    told(answer, (&from, &to)).await
}

/// An answer with a text replaced in it.
async fn told(answer: Response, (from, to): (&str, &str)) -> Response {
    let (mut head, body) = answer.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_BYTES).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    head.headers.remove(CONTENT_LENGTH);
    let text = String::from_utf8_lossy(&bytes).replace(from, to);
    Response::from_parts(head, Body::from(text))
}

fn called(message: &Value) -> Value {
    if message["params"]["task"].is_object() {
        return result(message, &json!({"task": task("working")}));
    }
    json!({"jsonrpc": "2.0", "id": message["id"],
        "error": {"code": -32601, "message": format!("{TOOL} runs as a task only")}})
}

fn task(status: &str) -> Value {
    json!({"taskId": TASK_ID, "status": status, "ttl": 60_000, "pollInterval": 200,
        "createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z"})
}

fn failed() -> Value {
    json!({"content": [{"type": "text", "text": "This job always fails."}], "isError": true,
        "_meta": {"io.modelcontextprotocol/related-task": {"taskId": TASK_ID}}})
}

fn result(message: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": message["id"], "result": result})
}

fn whole(message: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], message.to_string()).into_response()
}
