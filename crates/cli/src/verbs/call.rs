//! `call`: arguments by the tool's schema, one request, and Ctrl-C that reaches the server.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use api::wire::CallRequest;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use serde_json::value::RawValue;

use super::discover::{help_items, normal_ref};
use super::outcome::{is_terminal, show_done, show_view, verdict};
use super::{Desk, facts, text};
use crate::arguments::{self, Typed};
use crate::bridge::{Ask, Bridge, header_text, segment};
use crate::failure::{Executed, Failure};
use crate::options::Call;
use crate::output::Mode;
use crate::schemas::{Known, Schemas};
use crate::sse::EventStream;
use crate::stdin::{self, Input};

/// Without `--timeout` the bridge's own deadline ends the call; this only ends a bridge that forgot it.
const PATIENCE: Duration = Duration::from_hours(1);

/// What the bridge may take beyond a call's own deadline to tell how it ended.
const MARGIN: Duration = Duration::from_secs(15);

/// How long Ctrl-C waits for the call's end upstream.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// Pause between looks for a call that is just being recorded.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Where the arguments come from.
#[derive(Debug)]
enum Given {
    Typed(Vec<Typed>),
    Whole(Box<RawValue>),
}

/// Calls a tool and shows what it answers.
///
/// # Errors
/// Every code a call can end with; `tool_error` when the tool said it failed.
pub(crate) async fn call(desk: &Desk, call: &Call) -> Result<(), Failure> {
    let (reference, rest) = target(call);
    let mut idle = false;
    let given = given(desk, rest, &mut idle)?;
    let schemas = Schemas::new(&desk.places, desk.bridge.settings());
    let known = match &given {
        Given::Typed(typed) if arguments::need_schema(typed) => {
            Some(schema_of(&desk.bridge, &schemas, &reference).await?)
        }
        _ => None,
    };
    let first = attempt(desk, call, &reference, (&given, known.as_ref())).await;
    match (first, &known) {
        // The kept schema was old: the bridge refused before anything ran, so asking again is safe.
        (Err(failure), Some(_))
            if failure.code == "schema_changed" && call.schema_hash.is_none() =>
        {
            schemas.forget(&reference);
            let fresh = schema_of(&desk.bridge, &schemas, &reference).await?;
            attempt(desk, call, &reference, (&given, Some(&fresh))).await
        }
        (Err(failure), _) if failure.code == "invalid_arguments" && idle => {
            let hint = failure.hint.clone().unwrap_or_default();
            Err(failure.hint(format!(
                "{hint} (standard input was open but empty and was not read; `-` waits for it)"
            )))
        }
        (outcome, _) => outcome,
    }
}

/// `server.tool`, `server/tool` or `server tool`, and the arguments that are left.
fn target(call: &Call) -> (String, &[String]) {
    let bare = !call.reference.contains(['.', '/']);
    match call.arguments.split_first() {
        Some((tool, rest)) if bare && !tool.contains(['=', '{']) && tool != "-" => {
            (format!("{}.{tool}", call.reference), rest)
        }
        _ => (normal_ref(&call.reference), &call.arguments),
    }
}

fn given(desk: &Desk, rest: &[String], idle: &mut bool) -> Result<Given, Failure> {
    match rest {
        [dash] if dash == "-" => {
            let bytes = stdin::all()?;
            arguments::whole_object(&bytes, "standard input").map(Given::Whole)
        }
        [one] if one.trim_start().starts_with('{') => {
            arguments::whole_object(one.as_bytes(), "the argument").map(Given::Whole)
        }
        [] if !desk.no_input => match stdin::if_any()? {
            Input::Bytes(bytes) if !bytes.trim_ascii().is_empty() => {
                arguments::whole_object(&bytes, "standard input").map(Given::Whole)
            }
            Input::Bytes(_) | Input::Nothing => Ok(Given::Typed(Vec::new())),
            Input::Idle => {
                *idle = true;
                Ok(Given::Typed(Vec::new()))
            }
        },
        typed => arguments::parse(typed).map(Given::Typed),
    }
}

async fn schema_of(bridge: &Bridge, schemas: &Schemas, reference: &str) -> Result<Known, Failure> {
    if let Some(known) = schemas.recall(reference) {
        return Ok(known);
    }
    let ask = Ask::get("/v1/tools/help").query("ref", Some(reference));
    let body = bridge.ask(ask).await?.value()?;
    let item = help_items(&body).into_iter().next().unwrap_or(&Value::Null);
    let schema = item.get("input_schema").cloned().unwrap_or_default();
    Ok(schemas.keep(reference, text(item, "hash"), schema))
}

async fn attempt(
    desk: &Desk,
    call: &Call,
    reference: &str,
    (given, known): (&Given, Option<&Known>),
) -> Result<(), Failure> {
    let arguments = match given {
        Given::Whole(whole) => whole.clone(),
        Given::Typed(typed) => arguments::object(typed, known.map(|known| &known.input_schema))?,
    };
    let pinned = known
        .map(|known| known.hash.clone())
        .filter(|hash| !hash.is_empty());
    let body = CallRequest {
        reference: reference.to_owned(),
        arguments: Some(arguments),
        lane: call.lane.clone(),
        timeout_ms: call
            .timeout
            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        schema_hash: call.schema_hash.clone().or(pinned),
        confirm_token: call.confirm.clone(),
        dry_run: call.dry_run,
    };
    let body = serde_json::to_vec(&body).map_err(|error| Failure::usage(error.to_string()))?;
    let ask = Ask::post("/v1/calls", body)
        .header("idempotency-key", call.idempotency_key.clone())
        .header("prefer", call.asynchronous.then_some("respond-async"))
        .header(
            "accept",
            call.stream.then_some("text/event-stream, application/json"),
        )
        .wait(call.timeout.map_or(PATIENCE, |timeout| timeout + MARGIN));
    let running = Running {
        desk,
        reference,
        key: call.idempotency_key.as_deref(),
        call_id: Mutex::new(None),
    };
    if call.stream {
        running.unless_interrupted(running.streamed(ask)).await
    } else {
        running.unless_interrupted(running.plain(ask, call)).await
    }
}

/// A call on its way, and what is known of it should the user interrupt.
struct Running<'a> {
    desk: &'a Desk,
    reference: &'a str,
    key: Option<&'a str>,
    call_id: Mutex<Option<String>>,
}

impl Running<'_> {
    /// Dropping `work` closes its connection, which cancels a call without a key; the rest is asked for.
    async fn unless_interrupted(
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

    async fn plain(&self, ask: Ask, call: &Call) -> Result<(), Failure> {
        let answer = self.desk.ask(ask).await?;
        if call.asynchronous && answer.status == http::StatusCode::ACCEPTED {
            let body = answer.value()?;
            return match self.desk.output.mode {
                Mode::Text => self.desk.output.text("call", text(&body, "call_id")),
                _ => self.desk.output.json("call", &body.to_string()),
            };
        }
        if call.dry_run {
            return show_dry_run(self.desk, &answer.value()?);
        }
        show_done(self.desk, &answer)
    }

    async fn streamed(&self, ask: Ask) -> Result<(), Failure> {
        let wait = ask.patience();
        let followed = async {
            let response = self.desk.bridge.open(ask).await?;
            let kind = header_text(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
            if kind.starts_with("text/event-stream") {
                self.follow(EventStream::new(response)).await
            } else {
                // A replay or a dry run has no events; its answer is whole.
                let answer = Bridge::whole(response).await?;
                match answer.value()?.get("content") {
                    Some(_) => show_done(self.desk, &answer),
                    None => show_dry_run(self.desk, &answer.value()?),
                }
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
        let mut drew = false;
        while let Some(event) = events.next().await? {
            let id = ["call_id", "req_id"]
                .iter()
                .find_map(|name| event.get(name)?.as_str());
            if let (Some(id), Ok(mut known)) = (id, self.call_id.lock()) {
                known.get_or_insert_with(|| id.to_owned());
            }
            if self.desk.output.mode == Mode::JsonLines {
                self.desk.output.raw_line(&event.to_string())?;
            } else {
                drew |= self.show_progress(&event);
            }
            if text(&event, "type") == "tool_result" {
                break;
            }
        }
        self.desk.output.progress_done(drew);
        let Some(id) = self.known_id() else {
            return Err(Failure::protocol(
                "the event stream ended before the call began",
            ));
        };
        let path = format!("/v1/calls/{}", segment(&id));
        let view = self.desk.ask(Ask::get(path)).await?.value()?;
        match self.desk.output.mode {
            Mode::JsonLines => verdict(&view),
            _ => show_view(self.desk, &view),
        }
    }

    fn show_progress(&self, event: &Value) -> bool {
        if text(event, "type") != "tool_log" {
            return false;
        }
        let data = event.get("data").unwrap_or(&Value::Null);
        let message = data.get("data").unwrap_or(&Value::Null);
        // Progress may come as an object or as the text of one.
        let parsed = message
            .as_str()
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        let progress = parsed.as_ref().unwrap_or(message);
        let number = |name: &str| progress.get(name).and_then(Value::as_f64);
        let done = number("progress").map(|now| (now, number("total").unwrap_or(0.0)));
        let words = match (progress.get("message"), message) {
            (Some(Value::String(words)), _) => words.clone(),
            (_, Value::String(words)) if done.is_none() => words.clone(),
            (_, other) if done.is_none() => other.to_string(),
            _ => String::new(),
        };
        self.desk.output.progress(done, &words);
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
