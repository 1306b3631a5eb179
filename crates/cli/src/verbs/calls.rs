//! `calls`: what became of calls made before.

use std::time::Duration;

use serde_json::Value;

use super::outcome::{is_terminal, one_line_of, show_view};
use super::{Desk, text};
use crate::ask::{Ask, SHORT_WAIT};
use crate::bridge::segment;
use crate::failure::Failure;
use crate::moment;
use crate::options::Calls;

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
                .query("since", since.as_deref().map(moment::since));
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
            let answer = desk.ask(ask).await?;
            let view: Value = if answer.body.is_empty() {
                desk.ask(Ask::get(path(id, ""))).await?.value()?
            } else {
                answer.value()?
            };
            match desk.output.mode {
                crate::output::Mode::Text => desk.output.text(id, &one_line_of(&view)),
                _ => desk.output.json(id, &view.to_string()),
            }
        }
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
