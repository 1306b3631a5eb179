//! `events`, `trace`: what happened.

use serde_json::Value;

use super::outcome::one_line_of;
use super::{Desk, facts, text};
use crate::ask::{Ask, LONG_WAIT};
use crate::failure::{Executed, Failure};
use crate::options::Events;
use crate::output::Mode;
use crate::screen;
use crate::sse::{self, EventStream};

/// Shows events that were, or follows those to come until Ctrl-C.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn events(desk: &Desk, events: &Events) -> Result<(), Failure> {
    if events.follow {
        return follow(desk, events).await;
    }
    let ask = Ask::get("/v1/events/history")
        .query("types", events.types.clone())
        .query("after", events.after.clone())
        .query("limit", Some(events.limit.to_string()));
    let body = desk.ask(ask).await?.value()?;
    desk.output.list("events", &body, event_line)
}

async fn follow(desk: &Desk, events: &Events) -> Result<(), Failure> {
    let ask = Ask::get("/v1/events")
        .query("types", events.types.clone())
        .query("after", events.after.clone())
        .header("accept", Some("text/event-stream"));
    let shown = async {
        let opening = desk.bridge.open(ask);
        let response = tokio::time::timeout(LONG_WAIT, opening)
            .await
            .map_err(|_elapsed| Failure::bridge_timeout(LONG_WAIT.as_millis()))??;
        let mut stream = EventStream::new(response);
        let mut last = events.after.clone();
        while let Some(data) = stream.next().await? {
            let event: Value = sse::read(&data)?;
            match desk.output.mode {
                Mode::Text => desk.output.raw_line(&event_line(&event))?,
                _ => desk.output.raw_line(&data)?,
            }
            last = event
                .get("id")
                .and_then(Value::as_str)
                .map(str::to_owned)
                .or(last);
        }
        let from = last.map_or_else(String::new, |id| format!(" --after {id}"));
        let mut failure = Failure::protocol("the bridge closed the event stream")
            .executed(Executed::No)
            .hint(format!("go on with `paperbot-mcp events --follow{from}`"));
        failure.retryable = true;
        Err(failure)
    };
    tokio::select! {
        ended = shown => ended,
        // Watching has no effect to undo: Ctrl-C is how it ends.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn event_line(event: &Value) -> String {
    let head = [text(event, "id"), text(event, "ts"), text(event, "type")].join("  ");
    let ids = facts(event, &["call_id", "session_id", "trace_id"]);
    let data = event.get("data").map(Value::to_string).unwrap_or_default();
    screen::neutral(&format!("{head}  {ids}  {data}")).into_owned()
}

/// Everything under one trace id: calls, then events.
///
/// # Errors
/// As [`events`].
pub(crate) async fn trace(desk: &Desk, trace_id: &str) -> Result<(), Failure> {
    let path = format!("/v1/traces/{}", crate::bridge::segment(trace_id));
    let body = desk.ask(Ask::get(path)).await?.value()?;
    if desk.output.mode != Mode::Text {
        return desk.output.json("trace", &body.to_string());
    }
    let mut lines = String::new();
    for (member, line) in [
        ("calls", one_line_of as fn(&Value) -> String),
        ("events", event_line),
    ] {
        for item in body
            .get(member)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            lines.push_str(&line(item));
            lines.push('\n');
        }
    }
    if lines.is_empty() {
        desk.output
            .note("nothing is recorded under this trace id that you may see");
    }
    desk.output.text("trace", &lines)
}
