//! `find` and `help`: what there is and how it is called.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Desk, text};
use crate::ask::Ask;
use crate::failure::Failure;
use crate::options::{Find, Help, Kind};
use crate::output::Mode;
use crate::screen;

/// Searches or lists the catalogue. Nothing that fits is an empty answer and exit 0, with a note on stderr.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn find(desk: &Desk, find: &Find) -> Result<(), Failure> {
    let words = find.words.join(" ");
    let queries = std::iter::once(words).chain(find.query.iter().cloned());
    let kinds: Vec<&str> = find.kind.iter().map(|kind| wire_name(*kind)).collect();
    let mut ask = Ask::get("/v1/catalog");
    for query in queries.filter(|query| !query.trim().is_empty()) {
        ask = ask.query("q", Some(query));
    }
    let ask = ask
        .query("server", find.server.clone())
        .query("kind", (!kinds.is_empty()).then(|| kinds.join(",")))
        .query("since", find.since.clone())
        .query("limit", Some(find.limit.to_string()))
        .query("fields", find.names.then_some("names"));
    let body = desk.ask(ask).await?.value()?;
    desk.output
        .detail(&format!("catalog_hash={}", text(&body, "catalog_hash")));
    if find.since.is_some() && body.get("items").is_none_or(Value::is_null) {
        return show_delta(desk, &body, find.names);
    }
    desk.output
        .list("find", &body, |item| line(item, find.names))?;
    if desk.output.mode != Mode::Json {
        remark(desk, &body, find);
    }
    Ok(())
}

/// What the lines alone do not say: nothing fits, or a server is not there.
fn remark(desk: &Desk, body: &Value, find: &Find) {
    let none = body
        .get("items")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    if none {
        let advice = if find.words.is_empty() && find.query.is_empty() {
            "the catalogue is empty; `paperbot-mcp doctor` tells why"
        } else {
            "nothing fits; try other words, several -q, or `find` alone for everything"
        };
        desk.output.note(advice);
    }
    let servers = body.get("servers").and_then(Value::as_array);
    for server in servers.into_iter().flatten() {
        let state = text(server, "state");
        if matches!(state, "down" | "stale" | "needs_auth") {
            let name = text(server, "server");
            desk.output.note(&format!(
                "server {name} is {state}; `paperbot-mcp doctor` tells why"
            ));
        }
    }
}

fn show_delta(desk: &Desk, body: &Value, names: bool) -> Result<(), Failure> {
    if desk.output.mode != Mode::Text {
        return desk.output.json("find", &body.to_string());
    }
    let mut lines = String::new();
    for (mark, member) in [('+', "added"), ('~', "changed"), ('-', "removed")] {
        let entries = body.get(member).and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let shown = match entry {
                Value::String(reference) => screen::one_line(reference),
                item => line(item, names),
            };
            let _ = writeln!(lines, "{mark} {shown}");
        }
    }
    desk.output.text("find", &lines)
}

/// `server.tool(shape)  summary`, and a mark for what cannot be called or may be old.
fn line(item: &Value, names: bool) -> String {
    let reference = match item {
        Value::String(reference) => screen::one_line(reference),
        item => screen::one_line(text(item, "ref")),
    };
    if names || item.is_string() {
        return reference;
    }
    let mut line = reference + &screen::one_line(text(item, "shape"));
    let kind = text(item, "kind");
    if !matches!(kind, "tool" | "") {
        let _ = write!(line, " [{kind}]");
    }
    let unusable = item
        .get("unsupported_schema")
        .is_some_and(|mark| !matches!(mark, Value::Null | Value::Bool(false)));
    for (there, mark) in [
        (unusable, " [unsupported schema]"),
        (item.get("stale") == Some(&Value::Bool(true)), " [stale]"),
    ] {
        if there {
            line.push_str(mark);
        }
    }
    let summary = screen::one_line(text(item, "summary"));
    if !summary.is_empty() {
        line.push_str("  ");
        line.push_str(&summary);
    }
    line
}

fn wire_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "tool",
        Kind::Resource => "resource",
        Kind::Template => "template",
        Kind::Prompt => "prompt",
    }
}

/// Explains tools.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn help(desk: &Desk, help: &Help) -> Result<(), Failure> {
    let mut ask = Ask::get("/v1/tools/help");
    for reference in &help.refs {
        ask = ask.query("ref", Some(normal_ref(reference)));
    }
    let ask = ask.query("if_hash", help.if_hash.clone());
    let body = desk.ask(ask).await?.value()?;
    if desk.output.mode != Mode::Text {
        return desk.output.json("help", &body.to_string());
    }
    let explained: Vec<String> = help_items(&body)
        .iter()
        .map(|item| explain(item, help.schema))
        .collect();
    desk.output.text("help", &explained.join("\n"))
}

/// The items of a help answer, however it wraps them.
pub(crate) fn help_items(body: &Value) -> Vec<&Value> {
    match body.get("items").or_else(|| body.get("tools")) {
        Some(Value::Array(items)) => items.iter().collect(),
        _ => match body {
            Value::Array(items) => items.iter().collect(),
            one => vec![one],
        },
    }
}

fn explain(item: &Value, schema: bool) -> String {
    let reference = screen::one_line(text(item, "ref"));
    if item.get("unchanged") == Some(&Value::Bool(true)) {
        return format!("{reference} unchanged");
    }
    if item.get("missing") == Some(&Value::Bool(true)) {
        let near = item.get("near").and_then(Value::as_array);
        let near: Vec<&str> = near
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let meant = if near.is_empty() {
            String::new()
        } else {
            format!("; did you mean {}?", near.join(", "))
        };
        return format!(
            "{reference} not found{meant}; `paperbot-mcp find WORDS` lists what there is"
        );
    }
    let shape = screen::one_line(text(item, "shape"));
    let hash = screen::one_line(text(item, "hash"));
    let mut lines = vec![format!("{reference}{shape}  {}  hash:{hash}", hints(item))];
    let description = text(item, "description").trim();
    lines.extend((!description.is_empty()).then(|| description.to_owned()));
    if let Some(example) = item.get("example").filter(|example| !example.is_null()) {
        lines.push(format!(
            "example: paperbot-mcp call {reference} '{example}'"
        ));
    }
    let whole = [("input_schema", true), ("output_schema", schema)];
    for (member, wanted) in whole {
        // The signature says what the schema says unless it had to leave something out.
        let needed = wanted && (schema || shape.contains('…'));
        if let Some(value) = item.get(member).filter(|value| needed && !value.is_null()) {
            lines.push(format!("{member}: {value}"));
        }
    }
    lines.join("\n") + "\n"
}

fn hints(item: &Value) -> String {
    let hint = |name: &str| item.pointer(&format!("/hints/{name}")) == Some(&Value::Bool(true));
    let mut words = Vec::new();
    if hint("read_only") {
        words.push("read-only");
    } else {
        words.push(if hint("destructive") {
            "destructive"
        } else {
            "writes"
        });
        words.extend(hint("idempotent").then_some("idempotent"));
    }
    words.extend(hint("open_world").then_some("open-world"));
    words.join(" ")
}

/// `server/tool` as some programs write it becomes `server.tool`.
#[must_use]
pub(crate) fn normal_ref(reference: &str) -> String {
    match (reference.find('.'), reference.find('/')) {
        (Some(dot), Some(slash)) if dot < slash => reference.to_owned(),
        (_, Some(_)) => reference.replacen('/', ".", 1),
        _ => reference.to_owned(),
    }
}
