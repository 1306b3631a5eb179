//! `agent status`: what the agents of this machine wrote down about themselves, and whether they still run.

use serde_json::{Value, json};
use transports::tunnel::agent::{LineState, ServerState};

use crate::agent::find;
use crate::agent::home::Home;
use crate::failure::Failure;
use crate::options::AgentFileOption;
use crate::output::{Mode, Output};
use crate::places::Places;
use crate::verbs::config;

/// Shows every agent of this machine, or the one of `--config`.
///
/// # Errors
/// 6 when there is none, 4 when one of them is not online.
pub(crate) fn status(
    options: &AgentFileOption,
    output: &Output,
    places: &Places,
) -> Result<(), Failure> {
    let homes = match &options.config {
        Some(named) => vec![Home::of(
            &config::plan(&find::find(Some(named), places)?)?,
            places,
        )],
        None => Home::all(places),
    };
    let items: Vec<Value> = homes.iter().filter_map(one).collect();
    if items.is_empty() {
        return Err(Failure::not_well(6, "no agent has run here yet")
            .hint("`paperbot-mcp agent run` starts one in the foreground"));
    }
    let body = json!({"items": items});
    match output.mode {
        Mode::Text => {
            let text = items.iter().map(sheet).collect::<String>();
            output.text("agents", &text)?;
        }
        _ => output.list("agents", &body, |_| String::new())?,
    }
    let away = items.iter().find(|item| item["state"] != "online");
    match away {
        None => Ok(()),
        Some(item) => {
            let (id, state) = (&item["agent_id"], &item["state"]);
            let words = format!("{} is {}", text(id), text(state));
            Err(Failure::not_well(4, words))
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn one(home: &Home) -> Option<Value> {
    let written = home.read()?;
    let running = home.is_running();
    let state = match (running, written.status.line) {
        (false, _) => "stopped",
        (true, LineState::Online) => "online",
        (true, LineState::Offline) => "offline",
        (true, LineState::Stopping) => "stopping",
    };
    let mut item = serde_json::to_value(&written).ok()?;
    let members = item.as_object_mut()?;
    members.remove("line");
    members.insert("state".to_owned(), json!(state));
    members.insert("directory".to_owned(), json!(home.path()));
    if !running {
        for gone in ["pid", "in_flight"] {
            members.remove(gone);
        }
    }
    Some(item)
}

fn sheet(item: &Value) -> String {
    use std::fmt::Write as _;
    let mut lines = format!("{}  {}", text(&item["agent_id"]), text(&item["state"]));
    for name in [
        "url",
        "pid",
        "in_flight",
        "unacknowledged",
        "dropped_results",
        "why",
    ] {
        let value = &item[name];
        if !value.is_null() && value != 0 {
            let shown = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(lines, "  {name}={}", crate::screen::one_line(&shown));
        }
    }
    lines.push('\n');
    let servers = item["servers"].as_array();
    for server in servers.into_iter().flatten() {
        let state: Option<ServerState> = serde_json::from_value(server["state"].clone()).ok();
        let word = match state {
            Some(ServerState::Ready) => "ready",
            Some(ServerState::Starting) => "starting",
            Some(ServerState::Down) | None => "down",
        };
        let _ = write!(
            lines,
            "  {}  {word}  tools={}  restarts={}",
            text(&server["name"]),
            server["tools"],
            server["restarts"]
        );
        if let Some(problem) = server["problem"].as_str() {
            let _ = write!(lines, "  {}", crate::screen::one_line(problem));
        }
        lines.push('\n');
    }
    lines
}
