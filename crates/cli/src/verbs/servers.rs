//! `server`: definitions of servers, their versions, and whether they answer.

use std::fmt::Write as _;

use api::wire::{ApprovePin, Rollback};
use http::Method;
use serde_json::{Map, Value, json};

use super::{Desk, facts, sheet, text};
use crate::ask::{Ask, LONG_WAIT};
use crate::bridge::segment;
use crate::failure::Failure;
use crate::options::{Definition, PinAct, Server};
use crate::output::Mode;
use crate::screen;
use crate::stdin;
use crate::yaml;

/// Runs one of the verbs about servers.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn run(desk: &Desk, verb: &Server) -> Result<(), Failure> {
    match verb {
        Server::List => list(desk).await,
        Server::Add(definition) => {
            let body = json!({"name": definition.name, "definition": described(definition)?});
            let ask = Ask::post("/v1/servers", body.to_string().into_bytes());
            saved(desk, ask.wait(LONG_WAIT)).await
        }
        Server::Set(definition) => {
            let body = json!({"definition": described(definition)?});
            let ask = Ask::post(path(&definition.name, ""), body.to_string().into_bytes())
                .method(Method::PUT)
                .header("if-match", Some(if_match(definition.if_match.as_deref())));
            saved(desk, ask.wait(LONG_WAIT)).await
        }
        Server::Remove {
            name,
            if_match: version,
        } => {
            let ask = Ask::get(path(name, ""))
                .method(Method::DELETE)
                .header("if-match", Some(if_match(version.as_deref())));
            desk.ask(ask.wait(LONG_WAIT)).await?;
            desk.output.note(&format!("{name} is removed"));
            Ok(())
        }
        Server::Versions { name } => {
            let body = desk.ask(Ask::get(path(name, "/versions"))).await?.value()?;
            desk.output.list("versions", &items(&body), version_line)
        }
        Server::Diff { name, from, to } => {
            let ask = Ask::get(path(name, "/diff"))
                .query("from", Some(from.to_string()))
                .query("to", Some(to.to_string()));
            let body = desk.ask(ask).await?.value()?;
            desk.output.list("diff", &items(&body), change_lines)
        }
        Server::Rollback { name, version } => {
            let body = json!(Rollback { version: *version })
                .to_string()
                .into_bytes();
            let ask =
                Ask::post(path(name, "/rollback"), body).header("if-match", Some(if_match(None)));
            saved(desk, ask.wait(LONG_WAIT)).await
        }
        Server::Test { name } => test(desk, name).await,
        Server::Pins { name, act } => pins(desk, name, act.as_ref()).await,
    }
}

/// A list in whatever member it came.
fn items(body: &Value) -> Value {
    let members = ["items", "versions", "changes"];
    match members.iter().find_map(|name| body.get(name)) {
        Some(items) => json!({"items": items, "next_cursor": body.get("next_cursor")}),
        None => json!({"items": body}),
    }
}

fn path(name: &str, rest: &str) -> String {
    format!("/v1/servers/{}{rest}", segment(name))
}

/// Whoever names no version changes whatever is there.
fn if_match(version: Option<&str>) -> String {
    version.map_or_else(
        || "*".to_owned(),
        |version| format!("\"{}\"", version.trim_matches('"')),
    )
}

async fn saved(desk: &Desk, ask: Ask) -> Result<(), Failure> {
    let body = desk.ask(ask).await?.value()?;
    match desk.output.mode {
        Mode::Text => desk.output.text("server", &version_line(&body)),
        _ => desk.output.json("server", &body.to_string()),
    }
}

/// Definitions say nothing about life: the states come from the catalogue.
async fn list(desk: &Desk) -> Result<(), Failure> {
    let ask = Ask::get("/v1/servers").query("limit", Some("500"));
    let body = desk.ask(ask).await?.value()?;
    let states = states(desk).await.unwrap_or_default();
    desk.output.list("servers", &body, |server| {
        let name = text(server, "name");
        let life = states.iter().find(|state| text(state, "server") == name);
        let life = life.map(|life| facts(life, &["state", "era", "tools", "stale_since"]));
        format!("{}  {}", version_line(server), life.unwrap_or_default())
            .trim_end()
            .to_owned()
    })
}

/// What the catalogue says about each server.
///
/// # Errors
/// The bridge's.
pub(crate) async fn states(desk: &Desk) -> Result<Vec<Value>, Failure> {
    let ask = Ask::get("/v1/catalog").query("limit", Some("1"));
    let mut body = desk.ask(ask).await?.value()?;
    match body.get_mut("servers").map(Value::take) {
        Some(Value::Array(states)) => Ok(states),
        _ => Ok(Vec::new()),
    }
}

fn version_line(server: &Value) -> String {
    let name = screen::one_line(text(server, "name"));
    let definition = server.get("definition").unwrap_or(&Value::Null);
    let how = facts(definition, &["transport", "url", "isolation", "disabled"]);
    let command: Vec<&str> = definition
        .get("command")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let command = match command.as_slice() {
        [] => String::new(),
        words => format!(" command=\"{}\"", screen::one_line(&words.join(" "))),
    };
    let rest = facts(server, &["version", "source", "created_at", "created_by"]);
    format!("{name}  {rest} {how}{command}")
}

fn change_lines(change: &Value) -> String {
    let mut lines = screen::one_line(text(change, "pointer"));
    for (mark, member) in [('-', "from"), ('+', "to")] {
        if let Some(value) = change.get(member).filter(|value| !value.is_null()) {
            let _ = write!(lines, "\n{mark} {value}");
        }
    }
    lines
}

async fn pins(desk: &Desk, name: &str, act: Option<&PinAct>) -> Result<(), Failure> {
    let Some(PinAct::Approve { reference, hash }) = act else {
        let ask = Ask::get(path(name, "/pins")).query("limit", Some("500"));
        let body = desk.ask(ask).await?.value()?;
        return desk.output.list("pins", &body, pin_lines);
    };
    let body = json!(ApprovePin {
        reference: reference.clone(),
        hash: hash.clone(),
    });
    let ask = Ask::post(path(name, "/pins/approve"), body.to_string().into_bytes());
    let body = desk.ask(ask).await?.value()?;
    match desk.output.mode {
        Mode::Text => desk.output.text("pin", &pin_lines(&body)),
        _ => desk.output.json("pin", &body.to_string()),
    }
}

fn pin_lines(pin: &Value) -> String {
    let mut lines = screen::one_line(text(pin, "ref"));
    let told = ["state", "hash", "pinned_hash", "pinned_at", "approved_by"];
    let _ = write!(lines, "  {}", facts(pin, &told));
    let differences = pin.get("differences").and_then(Value::as_array);
    for one in differences.into_iter().flatten() {
        let pointer = screen::one_line(text(one, "pointer"));
        let detail = screen::one_line(text(one, "detail"));
        let _ = write!(lines, "\n    {pointer}: {detail}");
    }
    lines
}

async fn test(desk: &Desk, name: &str) -> Result<(), Failure> {
    let ask = Ask::post(path(name, "/test"), b"{}".to_vec()).wait(LONG_WAIT);
    let body = desk.ask(ask).await?.value()?;
    match desk.output.mode {
        Mode::Text => desk.output.text("test", &sheet(&body))?,
        _ => desk.output.json("test", &body.to_string())?,
    }
    if body.get("ok") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    let fault = ["error", "fault"].iter().find_map(|name| body.get(name));
    Err(fault
        .and_then(Failure::from_problem)
        .unwrap_or_else(|| Failure::not_well(4, format!("server {name} does not answer"))))
}

/// The definition as under `servers:` in the bridge's file.
fn described(definition: &Definition) -> Result<Value, Failure> {
    let mut members = match &definition.file {
        Some(path) => from_file(path)?,
        None => from_options(definition)?,
    };
    for (member, pairs) in [("env", &definition.env), ("headers", &definition.header)] {
        if pairs.is_empty() {
            continue;
        }
        let mut values = Map::new();
        for pair in pairs {
            let (name, value) = named(member, pair)?;
            values.insert(name.to_owned(), plain_or_secret(value));
        }
        members.insert(member.to_owned(), Value::Object(values));
    }
    if let Some(isolation) = &definition.isolation {
        members.insert("isolation".to_owned(), isolation.as_str().into());
    }
    Ok(Value::Object(members))
}

/// Splits `NAME=VALUE`. What does not fit is not told back: it may hold a secret.
fn named<'a>(member: &str, pair: &'a str) -> Result<(&'a str, &'a str), Failure> {
    let header = member == "headers";
    let wrong = |name: &str| name.is_empty() || (header && name.contains(':'));
    pair.split_once('=')
        .filter(|(name, _)| !wrong(name))
        .ok_or_else(|| {
            let form = if header {
                "--header takes NAME=VALUE, as in --header 'Authorization=Bearer env:TOKEN'"
            } else {
                "--env takes NAME=VALUE, as in --env LOG_LEVEL=debug"
            };
            Failure::usage(form)
        })
}

fn from_file(path: &std::path::Path) -> Result<Map<String, Value>, Failure> {
    let shown = path.display();
    let bytes = if path.as_os_str() == "-" {
        stdin::all()?
    } else {
        std::fs::read(path).map_err(|error| Failure::usage(format!("{shown}: {error}")))?
    };
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{shown} is not UTF-8")))?;
    // JSON is YAML, so one reader serves both.
    yaml::read(&text).map_err(|error| Failure::usage(format!("{shown}: {error}")))
}

fn from_options(definition: &Definition) -> Result<Map<String, Value>, Failure> {
    let mut members = Map::new();
    match (&definition.at, definition.command.as_slice()) {
        (Some(url), _) => {
            let transport = if definition.sse {
                "sse"
            } else {
                "streamable_http"
            };
            members.insert("transport".to_owned(), transport.into());
            members.insert("url".to_owned(), url.as_str().into());
        }
        (None, []) => {
            return Err(Failure::usage("how is the server reached?")
                .hint("give --at URL, --file FILE, or `-- COMMAND ARGUMENTS`"));
        }
        (None, command) => {
            members.insert("transport".to_owned(), "stdio".into());
            members.insert("command".to_owned(), json!(command));
        }
    }
    Ok(members)
}

/// `env:NAME` and `file:/path` are references to secrets; words before one are its prefix.
fn plain_or_secret(value: &str) -> Value {
    let start = ["env:", "file:/", "store:"]
        .iter()
        .filter_map(|scheme| value.find(scheme))
        .find(|at| *at == 0 || value[..*at].ends_with(' '));
    match start {
        Some(0) => json!({ "secret": value }),
        Some(at) => json!({ "secret": value[at..], "prefix": value[..at] }),
        None => json!(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_secrets_are_told_from_plain_values() {
        assert_eq!(plain_or_secret("debug"), json!("debug"));
        assert_eq!(plain_or_secret("my-env:x"), json!("my-env:x"));
        assert_eq!(plain_or_secret("env:TOKEN"), json!({"secret": "env:TOKEN"}));
        assert_eq!(
            plain_or_secret("Bearer env:TOKEN"),
            json!({"secret": "env:TOKEN", "prefix": "Bearer "})
        );
    }

    #[test]
    fn a_version_becomes_an_entity_tag() {
        assert_eq!(if_match(None), "*");
        assert_eq!(if_match(Some("7")), "\"7\"");
        assert_eq!(if_match(Some("\"7\"")), "\"7\"");
    }
}
