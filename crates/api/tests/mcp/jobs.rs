//! Tasks of 2026-07-28 as a server has them: what becomes of one stands in its id.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

/// The tasks of one server.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    released: AtomicBool,
    answered: Mutex<Option<Value>>,
}

fn task(id: &str, status: &str) -> Value {
    json!({"taskId": id, "status": status, "x": 1.0, "createdAt": "2026-07-28T00:00:00Z",
        "lastUpdatedAt": "2026-07-28T00:00:00Z", "ttlMs": 60000, "pollIntervalMs": 50})
}

impl Jobs {
    /// Lets the task `late` end.
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }

    /// The result that begins one.
    pub(crate) fn begun(how: &Value) -> Value {
        let mut task = task(how.as_str().unwrap_or("t1"), "working");
        task["resultType"] = "task".into();
        task
    }

    /// `tasks/get`.
    pub(crate) fn told(&self, params: &Value) -> Value {
        let id = params["taskId"].as_str().unwrap_or_default();
        let completed = |text: &str| {
            let mut task = task(id, "completed");
            task["result"] = json!({"content": [{"type": "text", "text": text}], "y": 1.0});
            task
        };
        match (id, &*self.answered.lock().unwrap()) {
            ("late", _) if !self.released.load(Ordering::SeqCst) => task(id, "working"),
            ("fails", _) => {
                let mut task = task(id, "failed");
                task["error"] = json!({"code": -32050, "message": "no", "data": {"why": 1.0}});
                task
            }
            ("ends", _) => task(id, "cancelled"),
            ("asks", None) => {
                let mut task = task(id, "input_required");
                task["inputRequests"] = json!({"who": {"method": "elicitation/create", "params": {
                    "message": "Who?", "requestedSchema": {"type": "object",
                        "properties": {"name": {"type": "string"}}}}}});
                task
            }
            ("asks", Some(answers)) => completed(
                answers["who"]["content"]["name"]
                    .as_str()
                    .unwrap_or("nobody"),
            ),
            _ => completed("the result"),
        }
    }

    /// `tasks/update`.
    pub(crate) fn update(&self, params: &Value) {
        *self.answered.lock().unwrap() = Some(params["inputResponses"].clone());
    }
}
