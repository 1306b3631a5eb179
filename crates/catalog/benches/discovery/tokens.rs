//! What a model reads of the nine real servers: everything at once, the whole catalogue, or one search and one help.

use catalog::{Entry, Index, Query};
use serde_json::{Value, json};

use crate::data::Tools;

pub(crate) fn print(servers: &Tools) {
    let Ok(counter) = tiktoken_rs::o200k_base() else {
        println!("\ntokens: no o200k table");
        return;
    };
    let count = |text: &str| counter.encode_ordinary(text).len();
    let index = servers.index();
    let entries = index.entries();
    let eager: usize = entries
        .iter()
        .map(|entry| count(&definition(entry).to_string()))
        .sum();
    let compact: usize = entries
        .iter()
        .map(|entry| count(&item(entry).to_string()))
        .sum();
    let lines: usize = entries.iter().map(|entry| count(&line(entry))).sum();
    let search = searched(&index, &count);
    println!(
        "\ntokens (o200k) for {} tools of nine servers",
        entries.len()
    );
    for (what, tokens) in [
        ("eager: every definition", eager),
        ("list_catalog, JSON items", compact),
        ("list_catalog, lines", lines),
        ("find 5 (lines) + one help, mean of 4", search),
    ] {
        println!(
            "{what:<38}{tokens:>7}  {:>5.1} % less than eager",
            100.0 - 100.0 * number(tokens) / number(eager)
        );
    }
}

/// Five lines and one whole definition, the mean of a few questions these servers can answer.
fn searched(index: &Index, count: &dyn Fn(&str) -> usize) -> usize {
    let questions = [
        "read a text file",
        "take a screenshot of the page",
        "show the git log",
        "what time is it in Tokyo",
    ];
    let cost = |question: &&str| {
        let texts = vec![(*question).to_owned()];
        let found = index.find(
            &Query {
                texts,
                ..Query::default()
            },
            &|_| true,
        );
        let lines = found
            .hits
            .iter()
            .take(5)
            .map(|(entry, _)| count(&line(entry)));
        let help = found.hits.first();
        lines.sum::<usize>() + help.map_or(0, |(entry, _)| count(&definition(entry).to_string()))
    };
    questions.iter().map(cost).sum::<usize>() / questions.len()
}

fn definition(entry: &Entry) -> Value {
    let raw = |value: Option<&serde_json::value::RawValue>| {
        value.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok())
    };
    json!({"name": &*entry.reference.name, "description": entry.description(), "inputSchema": raw(entry.input_schema())})
}

/// An item as REST's `list_catalog` gives it to a program.
fn item(entry: &Entry) -> Value {
    json!({
        "ref": entry.reference.to_string(), "kind": "tool", "server": entry.reference.server.as_str(),
        "name": &*entry.reference.name, "summary": entry.summary, "shape": entry.shape, "hash": entry.hash.short(),
        "hints": entry.hints,
    })
}

/// An entry as the command line shows it to a model.
fn line(entry: &Entry) -> String {
    format!(
        "{}{} — {} #{}",
        entry.reference,
        entry.shape,
        entry.summary,
        &entry.hash.short()[..8]
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens")]
fn number(count: usize) -> f64 {
    count as f64
}
