//! `agent`: this machine's tools behind the bridge.

mod install;
mod pair;
mod run;
mod status;

use http::Method;
use serde_json::Value;

use super::{Desk, facts, text};
use crate::ask::Ask;
use crate::failure::Failure;
use crate::options::Agent;
use crate::output::Output;
use crate::places::Places;
use crate::screen;

/// Whether a verb needs the bridge's REST face and a credential for it.
pub(crate) fn asks_bridge(verb: &Agent) -> bool {
    matches!(verb, Agent::List | Agent::Pair(_) | Agent::Confirm { .. })
}

/// The verbs that work on this machine alone.
///
/// # Errors
/// Usage failures, and when a file cannot be read or written.
pub(crate) fn run_here(verb: &Agent, output: &Output, places: &Places) -> Result<(), Failure> {
    match verb {
        Agent::Run(file) => run::run(file, output, places),
        Agent::Install(install) => install::install(install, output, places),
        Agent::Uninstall(uninstall) => install::uninstall(uninstall, output, places),
        Agent::Status(file) => status::status(file, output, places),
        Agent::List | Agent::Pair(_) | Agent::Confirm { .. } => Ok(()),
    }
}

/// The verbs that ask the bridge.
///
/// # Errors
/// The bridge's, and when a file cannot be written.
pub(crate) async fn ask(desk: &Desk, verb: &Agent) -> Result<(), Failure> {
    match verb {
        Agent::Pair(pair) => pair::pair(desk, pair).await,
        Agent::Confirm { code } => {
            let body = serde_json::json!({"code": code}).to_string().into_bytes();
            let ask = Ask::post("/v1/agents/pair/confirm", body).method(Method::POST);
            desk.ask_and_show(ask, "agent").await.map(drop)
        }
        _ => {
            let body = desk.ask(Ask::get("/v1/agents")).await?.value()?;
            desk.output.list("agents", &body, line)
        }
    }
}

fn line(agent: &Value) -> String {
    let state = text(agent, "status");
    let head = [
        screen::one_line(text(agent, "agent_id")),
        screen::one_line(state),
    ];
    let rest = facts(
        agent,
        &[
            "label",
            "hostname",
            "version",
            "in_flight",
            "last_seen_at",
            "servers",
            "tools",
        ],
    );
    format!("{}  {rest}", head.join("  "))
}
