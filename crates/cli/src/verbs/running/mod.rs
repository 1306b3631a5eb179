//! A call on its way: its answer or its events, until it ends.

mod interrupt;

use std::sync::Mutex;

use api::wire::CallDone;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::outcome::{is_terminal, said, show_done, show_view, verdict};
use super::{Desk, facts, questions, text};
use crate::ask::Ask;
use crate::bridge::{Answer, Bridge, header_text, segment};
use crate::failure::Failure;
use crate::output::Mode;
use crate::sse::{self, EventStream};

/// What of an event matters to its caller.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    call_id: Option<String>,
    req_id: Option<String>,
    data: Box<RawValue>,
}

/// The data of `tool_status`, as far as it matters.
#[derive(Debug, Deserialize)]
struct Status<'a> {
    state: Option<&'a str>,
    #[serde(default)]
    input_requests: Vec<Value>,
}

impl Told {
    /// What the call waits for, when this says that it does.
    fn questions(&self) -> Vec<Value> {
        let status: Option<Status<'_>> = serde_json::from_str(self.data.get()).ok();
        let waits = |status: &Status<'_>| {
            self.kind == "tool_status" && status.state == Some("input_required")
        };
        let status = status.filter(waits);
        status.map_or_else(Vec::new, |status| status.input_requests)
    }
}

/// The data of `tool_result`.
#[derive(Debug, Deserialize)]
struct Ending {
    result_json: Option<ResultJson>,
    #[serde(default)]
    replayed: bool,
}

/// A result in MCP's own names.
#[derive(Debug, Deserialize)]
struct ResultJson {
    content: Option<Box<RawValue>>,
    #[serde(rename = "structuredContent")]
    structured_content: Option<Box<RawValue>>,
    #[serde(rename = "isError", default)]
    is_error: bool,
}

/// A call on its way, and what is known of it should the user interrupt.
pub(crate) struct Running<'a> {
    desk: &'a Desk,
    reference: &'a str,
    key: Option<&'a str>,
    call_id: Mutex<Option<String>>,
}

impl<'a> Running<'a> {
    /// Nothing is sent yet.
    pub(crate) fn new(desk: &'a Desk, reference: &'a str, key: Option<&'a str>) -> Self {
        Self {
            desk,
            reference,
            key,
            call_id: Mutex::new(None),
        }
    }

    /// One answer.
    pub(crate) async fn plain(&self, ask: Ask) -> Result<(), Failure> {
        let answer = self.desk.ask(ask).await?;
        self.show(&answer)
    }

    /// A result, an accepted call's id, or what a dry run found.
    fn show(&self, answer: &Answer) -> Result<(), Failure> {
        let output = &self.desk.output;
        if answer.status == StatusCode::ACCEPTED {
            let body = answer.value()?;
            return match output.mode {
                Mode::Text => output.text("call", text(&body, "call_id")),
                _ => output.json("call", &body.to_string()),
            };
        }
        let body = answer.value()?;
        if body.get("dry_run") == Some(&Value::Bool(true)) {
            return show_dry_run(self.desk, &body);
        }
        show_done(self.desk, &answer.read()?)
    }

    /// Events until the last one, then the result.
    pub(crate) async fn streamed(&self, ask: Ask) -> Result<(), Failure> {
        let wait = ask.wait;
        self.desk.output.detail(&ask.summary());
        let followed = async {
            let response = self.desk.bridge.open(ask).await?;
            let kind = header_text(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
            if kind.starts_with("text/event-stream") {
                self.follow(EventStream::new(response)).await
            } else {
                self.show(&Bridge::whole(response).await?)
            }
        };
        let trace_id = Some(self.desk.bridge.trace_id().to_owned());
        match tokio::time::timeout(wait, followed).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Failure::bridge_timeout(wait.as_millis())),
        }
        .map_err(|failure| failure.traced(trace_id))
    }

    async fn follow(&self, mut events: EventStream) -> Result<(), Failure> {
        let started = Instant::now();
        let mut drew = false;
        let mut last = None;
        while let Some(data) = events.next().await? {
            let told: Told = sse::read(&data)?;
            let id = told.call_id.as_ref().or(told.req_id.as_ref());
            if let (Some(id), Ok(mut known)) = (id, self.call_id.lock()) {
                known.get_or_insert_with(|| id.clone());
            }
            if self.desk.output.mode == Mode::JsonLines {
                self.desk.output.raw_line(&data)?;
            } else if told.kind == "tool_log" {
                drew |= self.show_progress(told.data.get());
            } else {
                self.show_questions(&told.questions());
            }
            if told.kind == "tool_result" {
                last = Some(told.data);
                break;
            }
        }
        self.desk.output.progress_done(drew);
        let (Some(id), Some(last)) = (self.known_id(), last) else {
            return Err(Failure::protocol(
                "the event stream ended before the call did",
            ));
        };
        self.conclude(&id, last.get(), started).await
    }

    /// Shows the result from the last event; one too long for it, and failures, are asked for.
    async fn conclude(&self, id: &str, last: &str, started: Instant) -> Result<(), Failure> {
        let lines = self.desk.output.mode == Mode::JsonLines;
        let ending: Ending = sse::read(last)?;
        if let Some(result) = ending.result_json {
            let empty = RawValue::from_string("[]".to_owned());
            let empty = empty.map_err(|error| Failure::protocol(error.to_string()))?;
            let done = CallDone {
                call_id: id.to_owned(),
                trace_id: self.desk.bridge.trace_id().to_owned(),
                is_error: result.is_error,
                content: result.content.unwrap_or(empty),
                structured_content: result.structured_content,
                meta: None,
                duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                replayed: ending.replayed,
            };
            return if lines {
                said(&done)
            } else {
                show_done(self.desk, &done)
            };
        }
        let asked = self
            .desk
            .ask(Ask::get(format!("/v1/calls/{}", segment(id))))
            .await;
        let view = asked.and_then(|answer| answer.value()).unwrap_or_default();
        if is_terminal(text(&view, "state")) {
            return if lines {
                verdict(&view)
            } else {
                show_view(self.desk, &view)
            };
        }
        let told: Value = sse::read(last)?;
        Err(told
            .get("error")
            .and_then(Failure::from_problem)
            .unwrap_or_else(|| Failure::protocol("the call ended, but not how")))
    }

    /// What the call waits for and how to answer: whoever watches is the one who can.
    fn show_questions(&self, questions: &[Value]) {
        let id = self.known_id().unwrap_or_default();
        for line in questions::shown(&id, questions).lines() {
            self.desk.output.note(line);
        }
    }

    /// The server's own progress or log message; whether a bar was drawn.
    fn show_progress(&self, data: &str) -> bool {
        let log: Value = serde_json::from_str(data).unwrap_or_default();
        let said = text(&log, "data");
        let message: Value = serde_json::from_str(said).unwrap_or_default();
        let number = |name: &str| message.get(name).and_then(Value::as_f64);
        let done = number("progress").map(|now| (now, number("total").unwrap_or(0.0)));
        let words = ["message", "data"]
            .iter()
            .find_map(|name| message.get(*name)?.as_str());
        let words = words.unwrap_or(if done.is_some() { "" } else { said });
        self.desk.output.progress(done, words);
        done.is_some()
    }

    fn known_id(&self) -> Option<String> {
        self.call_id.lock().ok().and_then(|id| id.clone())
    }
}

fn show_dry_run(desk: &Desk, body: &Value) -> Result<(), Failure> {
    if desk.output.mode != Mode::Text {
        return desk.output.json("call", &body.to_string());
    }
    let line = facts(body, &["decision", "read_only", "schema_hash"]);
    let preview = match body.get("preview") {
        Some(Value::String(preview)) => preview.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    desk.output
        .text("call", &format!("nothing was sent; {line}\n{preview}"))
}
