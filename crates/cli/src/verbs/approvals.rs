//! `approve` and `deny`: a person reads what would happen and decides. At a terminal only: whoever runs this without
//! one may be a program, and a gate that a program opens is none.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use api::wire::{DecideApproval, Decision};
use serde_json::Value;

use super::{Desk, facts, text};
use crate::ask::Ask;
use crate::bridge::segment;
use crate::failure::Failure;
use crate::options::Decide;
use crate::output::Mode;
use crate::screen;

/// Lists what waits, or decides one.
///
/// # Errors
/// The bridge's; `usage` without a terminal, or when the person does not say yes.
pub(crate) async fn run(desk: &Desk, given: &Decide, decision: Decision) -> Result<(), Failure> {
    let Some(id) = &given.id else {
        let ask = Ask::get("/v1/approvals").query("state", Some("pending".to_owned()));
        let body = desk.ask(ask).await?.value()?;
        return desk.output.list("approvals", &body, line);
    };
    let path = format!("/v1/approvals/{}", segment(id));
    let approval = desk.ask(Ask::get(path.clone())).await?.value()?;
    confirmed(&approval, decision)?;
    let body = DecideApproval {
        decision,
        note: given.note.clone(),
    };
    let body = serde_json::to_vec(&body).map_err(|error| Failure::usage(error.to_string()))?;
    let decided = desk.ask(Ask::post(path, body)).await?.value()?;
    match desk.output.mode {
        Mode::Text => desk.output.text(id, &told(&decided)),
        _ => desk.output.json(id, &decided.to_string()),
    }
}

/// Shows what is decided and waits for the person's word.
fn confirmed(approval: &Value, decision: Decision) -> Result<(), Failure> {
    let mut stderr = std::io::stderr();
    if !std::io::stdin().is_terminal() || !stderr.is_terminal() {
        return Err(Failure::usage("approve and deny are for a person at a terminal").hint(
            "run it in a terminal, or decide with POST /v1/approvals/ID as a user with the role approver",
        ));
    }
    let verb = match decision {
        Decision::Approve => "approve",
        Decision::Deny => "deny",
    };
    // A terminal that went away leaves nobody who could say yes.
    let _ = write!(stderr, "{}\n{verb}? [y/N] ", shown(approval));
    let _ = stderr.flush();
    let mut said = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut said)
        .map_err(|error| Failure::local_io("standard input", &error))?;
    if matches!(said.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::usage("nothing was decided"))
}

/// What a person decides by.
fn shown(approval: &Value) -> String {
    let preview = &approval["preview"];
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let mut lines = vec![
        screen::one_line(text(preview, "summary")),
        format!("rule: {}", screen::one_line(text(approval, "rule"))),
        format!("until: {}", screen::one_line(text(approval, "expires_at"))),
        format!(
            "arguments: {}",
            screen::neutral(&pretty(&preview["arguments"]))
        ),
    ];
    if !preview["request"].is_null() {
        lines.push(format!(
            "request: {}",
            screen::neutral(&pretty(&preview["request"]))
        ));
    }
    for earlier in preview["history"].as_array().into_iter().flatten() {
        let earlier = facts(earlier, &["created_at", "state", "arguments"]);
        lines.push(format!("before: {earlier}"));
    }
    lines.join("\n")
}

fn told(decided: &Value) -> String {
    match (text(decided, "confirm_token"), text(decided, "call_id")) {
        ("", "") => "denied".to_owned(),
        ("", call) => format!("approved; {call} goes on"),
        (token, _) => format!("approved; the same call with --confirm {token}"),
    }
}

fn line(approval: &Value) -> String {
    let head = screen::one_line(text(approval, "approval_id"));
    let summary = screen::one_line(text(&approval["preview"], "summary"));
    let rest = facts(approval, &["rule", "expires_at", "call_id"]);
    format!("{head}  {summary}  {rest}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_sees_what_would_happen_and_nothing_that_hides() {
        let approval = json!({
            "approval_id": "apr_1", "rule": "roles.operator.confirm", "expires_at": "2026-01-01T00:00:00Z",
            "preview": {
                "summary": "ann calls bank.pay (may destroy)", "arguments": {"to": "bob\u{202e}"},
                "history": [{"created_at": "2025", "state": "succeeded", "arguments": "to: string"}],
            },
        });
        let shown = shown(&approval);
        assert!(
            shown.starts_with("ann calls bank.pay (may destroy)\nrule: roles.operator.confirm")
        );
        assert!(shown.contains("before: created_at=2025 state=succeeded"));
        assert!(!shown.contains('\u{202e}'));
        assert!(line(&approval).starts_with("apr_1  ann calls bank.pay"));
    }
}
