//! `calls`: what became of calls made before.

use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;

use super::outcome::{is_terminal, one_line_of, show_view};
use super::{Desk, questions, text};
use crate::arguments;
use crate::ask::{Ask, SHORT_WAIT};
use crate::bridge::segment;
use crate::failure::Failure;
use crate::moment;
use crate::options::{Calls, Input};
use crate::output::Mode;

/// How long one look waits at the bridge; below the request's own patience.
const ONE_LOOK: Duration = Duration::from_secs(20);

/// Without `--timeout`, a wait ends after this; the call goes on.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Runs one of the verbs about calls.
///
/// # Errors
/// The bridge's or the call's own, and when stdout cannot be written.
pub(crate) async fn run(desk: &Desk, verb: &Calls) -> Result<(), Failure> {
    match verb {
        Calls::List {
            state,
            reference,
            since,
        } => {
            let ask = Ask::get("/v1/calls")
                .query("state", state.clone())
                .query("ref", reference.clone())
                .query("since", since.as_deref().map(moment::since).transpose()?);
            let body = desk.ask(ask).await?.value()?;
            desk.output.list("calls", &body, one_line_of)
        }
        Calls::Get { id } => {
            let view = desk.ask(Ask::get(path(id, ""))).await?.value()?;
            show_view(desk, &view)
        }
        Calls::Wait { id, timeout } => {
            let view = wait(desk, id, timeout.unwrap_or(LONGEST_WAIT)).await?;
            show_view(desk, &view)
        }
        Calls::Cancel { id } => {
            let ask = Ask::post(path(id, "/cancel"), b"{}".to_vec());
            let view = changed(desk, id, ask).await?;
            show_line(desk, id, &view)
        }
        Calls::Input(given) => input(desk, given).await,
    }
}

/// Answers what a call waits for.
async fn input(desk: &Desk, given: &Input) -> Result<(), Failure> {
    let id = &given.id;
    let typed = arguments::parse(&given.answers)?;
    let view = desk.ask(Ask::get(path(id, ""))).await?.value()?;
    let questions = questions::of(&view);
    if questions.is_empty() {
        return Err(Failure::waits_for_nothing(id, text(&view, "state")));
    }
    let declined = given.decline.iter().map(|key| (key, "decline"));
    let cancelled = given.cancel.iter().map(|key| (key, "cancel"));
    let turned_down: Vec<(&String, &str)> = declined.chain(cancelled).collect();
    let responses = questions::answered(questions, typed, &turned_down)?;
    let body = serde_json::to_vec(&IndexMap::from([("responses", responses)]))
        .map_err(|error| Failure::usage(error.to_string()))?;
    let view = changed(desk, id, Ask::post(path(id, "/input"), body)).await?;
    if !is_terminal(text(&view, "state")) {
        desk.output
            .note(&format!("`calls wait {id}` waits for its end"));
    }
    show_line(desk, id, &view)
}

/// The call after a change: the answer's own view, or asked for where it has none.
async fn changed(desk: &Desk, id: &str, ask: Ask) -> Result<Value, Failure> {
    let answer = desk.ask(ask).await?;
    if answer.body.is_empty() {
        return desk.ask(Ask::get(path(id, ""))).await?.value();
    }
    answer.value()
}

fn show_line(desk: &Desk, id: &str, view: &Value) -> Result<(), Failure> {
    match desk.output.mode {
        Mode::Text => desk.output.text(id, &one_line_of(view)),
        _ => desk.output.json(id, &view.to_string()),
    }
}

async fn wait(desk: &Desk, id: &str, patience: Duration) -> Result<Value, Failure> {
    let looking = async {
        loop {
            let ask = Ask::get(path(id, ""))
                .query("wait_ms", Some(ONE_LOOK.as_millis().to_string()))
                .wait(SHORT_WAIT);
            let view = desk.ask(ask).await?.value()?;
            if is_terminal(text(&view, "state")) {
                return Ok(view);
            }
            // Somebody has to do something first: waiting on would hide that.
            if matches!(text(&view, "state"), "input_required" | "awaiting_approval") {
                desk.output
                    .note(&format!("{id} is {}", text(&view, "state")));
                return Ok(view);
            }
        }
    };
    match tokio::time::timeout(patience, looking).await {
        Ok(view) => view,
        Err(_elapsed) => Err(Failure::bridge_timeout(patience.as_millis())
            .hint("the call goes on; ask again with `calls wait` or `calls get`")),
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("/v1/calls/{}{rest}", segment(id))
}
