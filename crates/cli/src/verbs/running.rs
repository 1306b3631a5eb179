//! A call on its way: its answer or its events, and Ctrl-C, which reaches the server.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use api::wire::CallDone;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::outcome::{is_terminal, said, show_done, show_view, verdict};
use super::{Desk, facts, text};
use crate::ask::Ask;
use crate::bridge::{Answer, Bridge, header_text, segment};
use crate::failure::{Executed, Failure};
use crate::output::Mode;
use crate::sse::{self, EventStream};

/// How long Ctrl-C waits for the call's end upstream.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// Pause between looks for a call that is just being recorded.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What of an event matters to its caller.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    call_id: Option<String>,
    req_id: Option<String>,
    data: Box<RawValue>,
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

    /// Dropping `work` closes its connection, which cancels a call without a key; the rest is asked for.
    pub(crate) async fn unless_interrupted(
        &self,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        tokio::select! {
            outcome = work => return outcome,
            () = interrupted() => {}
        }
        self.desk
            .output
            .note("cancelling; Ctrl-C again leaves at once");
        tokio::select! {
            failure = self.withdraw() => Err(failure),
            () = interrupted() => Err(Failure::cancelled("left before the call's end was known", Executed::Unknown)),
            () = tokio::time::sleep(CANCEL_WAIT) => {
                Err(Failure::cancelled("cancelled; the call's end is not known yet", Executed::Unknown))
            }
        }
        .map_err(|failure| failure.traced(Some(self.desk.bridge.trace_id().to_owned())))
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
            if let (Some(id), Ok(mut known)) = (told.call_id.or(told.req_id), self.call_id.lock()) {
                known.get_or_insert(id);
            }
            if self.desk.output.mode == Mode::JsonLines {
                self.desk.output.raw_line(&data)?;
            } else if told.kind == "tool_log" {
                drew |= self.show_progress(told.data.get());
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

    /// Cancels the call and waits for its end; what it ended as is told in the failure.
    async fn withdraw(&self) -> Failure {
        let id = match self.known_id() {
            Some(id) => id,
            None => self.find_id().await,
        };
        let path = format!("/v1/calls/{}", segment(&id));
        // Refused when it ended meanwhile; the state asked for next tells.
        let _ = self
            .desk
            .bridge
            .ask(Ask::post(format!("{path}/cancel"), b"{}".to_vec()))
            .await;
        loop {
            let ask = Ask::get(path.clone()).query("wait_ms", Some("1000"));
            match self
                .desk
                .bridge
                .ask(ask)
                .await
                .and_then(|answer| answer.value())
            {
                Ok(view) if is_terminal(text(&view, "state")) => return ended_as(&view),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The call of this process by its key or trace; it is recorded before it is sent, so it turns up.
    async fn find_id(&self) -> String {
        loop {
            let ask = Ask::get("/v1/calls")
                .query("ref", Some(self.reference))
                .query("idempotency_key", self.key)
                .query("limit", Some("20"));
            let page = self
                .desk
                .bridge
                .ask(ask)
                .await
                .and_then(|answer| answer.value());
            let ours = |call: &&Value| text(call, "trace_id") == self.desk.bridge.trace_id();
            let page = page.unwrap_or_default();
            let calls = page.get("items").and_then(Value::as_array);
            if let Some(call) = calls.into_iter().flatten().find(ours) {
                return text(call, "call_id").to_owned();
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

fn ended_as(view: &Value) -> Failure {
    let state = text(view, "state");
    let told = ["error", "fault"]
        .iter()
        .find_map(|name| view.get(name)?.get("executed")?.as_str());
    let executed = match (told, state) {
        (Some(told), _) => Executed::parse(told),
        (None, "succeeded" | "failed") => Executed::Yes,
        _ => Executed::Unknown,
    };
    let mut failure = Failure::cancelled(format!("the call ended as {state}"), executed);
    let call_id = text(view, "call_id");
    failure.more.insert("call_id".to_owned(), call_id.into());
    failure
}

/// Ends at Ctrl-C; where signals cannot be had, never.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
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
