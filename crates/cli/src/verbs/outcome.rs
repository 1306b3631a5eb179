//! How a call that ended is shown, whether it was just made or looked up later.

use api::wire::CallDone;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Desk, facts, questions, text};
use crate::content;
use crate::failure::Failure;
use crate::output::Mode;

/// Shows a finished call.
///
/// # Errors
/// `tool_error` when the tool said it failed; protocol and local failures.
pub(crate) fn show_done(desk: &Desk, done: &CallDone) -> Result<(), Failure> {
    if done.replayed {
        desk.output
            .note("this is the first call's answer; its idempotency key was used before");
    }
    if desk.output.mode == Mode::Text {
        let shown = content::of_done(done, &desk.output)?;
        desk.output.text(&done.call_id, &shown)?;
    } else {
        desk.output.json(&done.call_id, &document(done))?;
    }
    desk.output.detail(&format!(
        "call_id={} trace_id={} duration_ms={}",
        done.call_id, done.trace_id, done.duration_ms
    ));
    said(done)
}

/// A tool's own word on whether it failed.
///
/// # Errors
/// `tool_error` when it did.
pub(crate) fn said(done: &CallDone) -> Result<(), Failure> {
    if done.is_error {
        let trace_id = Some(done.trace_id.clone());
        return Err(Failure::tool_error(&done.call_id, trace_id));
    }
    Ok(())
}

/// The document of `--json`. Spliced, not parsed: numbers and key order of the payload stay the server's.
fn document(done: &CallDone) -> String {
    let head = json!({
        "ok": !done.is_error,
        "call_id": done.call_id,
        "trace_id": done.trace_id,
        "duration_ms": done.duration_ms,
        "is_error": done.is_error,
    });
    let head = head.to_string();
    // Line breaks between JSON tokens mean nothing, but would break the one line.
    let raw = |part: &RawValue| part.get().replace(['\n', '\r'], " ");
    let structured = done.structured_content.as_deref();
    format!(
        "{},\"structured_content\":{},\"content\":{}}}",
        head.strip_suffix('}').unwrap_or(&head),
        structured.map_or_else(|| "null".to_owned(), raw),
        raw(&done.content)
    )
}

/// Whether a call in this state changes no more.
#[must_use]
pub(crate) fn is_terminal(state: &str) -> bool {
    matches!(
        state,
        "succeeded" | "failed" | "cancelled" | "timed_out" | "outcome_unknown"
    )
}

/// Shows a call that was looked up: its result, its failure, or where it stands.
///
/// # Errors
/// The call's own failure, `tool_error`, and local failures.
pub(crate) fn show_view(desk: &Desk, view: &Value) -> Result<(), Failure> {
    let call_id = text(view, "call_id");
    let result = view.get("result").filter(|result| !result.is_null());
    match (desk.output.mode, result) {
        (Mode::Text, Some(result)) => {
            let shown = content::of_result(result, call_id, &desk.output)?;
            desk.output.text(call_id, &shown)?;
        }
        (Mode::Text, None) => {
            let asked = questions::shown(call_id, questions::of(view));
            let line = one_line_of(view);
            desk.output.text(call_id, &format!("{line}\n{asked}"))?;
        }
        _ => desk.output.json(call_id, &view.to_string())?,
    }
    verdict(view)
}

/// A call's line in a list.
#[must_use]
pub(crate) fn one_line_of(view: &Value) -> String {
    facts_without_names(view, &["call_id", "state", "ref"])
        + "  "
        + &facts(
            view,
            &[
                "created_at",
                "duration_ms",
                "user",
                "lane",
                "idempotency_key",
                "trace_id",
            ],
        )
}

/// Bare values, separated by two blanks.
fn facts_without_names(view: &Value, names: &[&str]) -> String {
    let parts: Vec<String> = names
        .iter()
        .map(|name| crate::screen::one_line(text(view, name)))
        .collect();
    parts.join("  ")
}

/// The exit a call's end deserves; a call that goes on is no failure.
///
/// # Errors
/// The call's own failure, or `tool_error`.
pub(crate) fn verdict(view: &Value) -> Result<(), Failure> {
    let call_id = text(view, "call_id");
    let trace_id = view
        .get("trace_id")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let fault = ["error", "fault"].iter().find_map(|name| view.get(name));
    if let Some(failure) = fault.and_then(Failure::from_problem) {
        let mut failure = failure.traced(trace_id);
        failure.more.insert("call_id".to_owned(), json!(call_id));
        return Err(failure);
    }
    let is_error = ["is_error", "isError"].iter().any(|name| {
        let there = |value: &Value| value.get(name) == Some(&Value::Bool(true));
        view.get("result").is_some_and(there) || there(view)
    });
    if is_error {
        return Err(Failure::tool_error(call_id, trace_id));
    }
    Ok(())
}
