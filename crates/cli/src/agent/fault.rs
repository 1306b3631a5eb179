//! What is wrong with an agent's file and where: `config.yaml:3:7: …`. Never quotes a value of the file,
//! for any of them may be a secret.

use serde_saphyr::Location;

use crate::failure::Failure;

/// How alike two words must be (Jaro-Winkler) before one is offered for the other.
const LIKENESS: f64 = 0.8;
/// Longest part of a word of the file that is told back.
const MAX_ECHO_CHARS: usize = 64;
/// Complaints told of one file; the rest is counted.
const MAX_TOLD: usize = 20;

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Line and column from 1; `None` when the whole file is meant.
    pub(crate) at: Option<(u64, u64)>,
    /// In words.
    pub(crate) detail: String,
}

impl Fault {
    /// A complaint about one place.
    pub(crate) fn at(location: Location, detail: impl Into<String>) -> Self {
        let known = location.line() > 0;
        Self {
            at: known.then(|| (location.line(), location.column())),
            detail: detail.into(),
        }
    }

    /// What the reader of YAML found.
    pub(crate) fn read(error: &serde_saphyr::Error) -> Self {
        let at = error.location().filter(|at| at.line() > 0);
        Self {
            at: at.map(|at| (at.line(), at.column())),
            detail: told(error),
        }
    }

    /// `name:line:column: detail`.
    pub(crate) fn line(&self, name: &str) -> String {
        match self.at {
            Some((line, column)) => format!("{name}:{line}:{column}: {}", self.detail),
            None => format!("{name}: {}", self.detail),
        }
    }
}

/// All complaints as one failure, the first in its message.
pub(crate) fn failure(name: &str, faults: &[Fault]) -> Failure {
    let lines: Vec<String> = faults.iter().map(|fault| fault.line(name)).collect();
    let first = lines.first().map_or("not valid", String::as_str);
    let mut failure = Failure::usage(first);
    if lines.len() > 1 {
        let told = lines.iter().take(MAX_TOLD).cloned().collect::<Vec<_>>();
        failure
            .more
            .insert("errors".to_owned(), serde_json::json!(told));
        failure = failure.hint(format!("{} complaints in all", lines.len()));
    }
    failure
}

fn told(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::SerdeUnknownField {
            field, expected, ..
        } => unknown("key", field, expected),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown("value", variant, expected),
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        other => {
            let text = other.render_with_options(serde_saphyr::render_options! {
                snippets: serde_saphyr::SnippetMode::Off
            });
            unquoted(&text)
        }
    }
}

/// Messages may quote a value: what stands in double quotes is left out.
fn unquoted(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let mut parts = first.split('"');
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for (place, part) in parts.enumerate() {
        clean.push_str(if place % 2 == 0 { "…" } else { part });
    }
    clean
}

fn unknown(what: &str, word: &str, known: &[&'static str]) -> String {
    let printable = word.chars().filter(|c| !c.is_control());
    let shown: String = printable.take(MAX_ECHO_CHARS).collect();
    match nearest(word, known) {
        Some(meant) => format!("unknown {what} `{shown}`; did you mean `{meant}`?"),
        None => format!("unknown {what} `{shown}`; known here: {}", known.join(", ")),
    }
}

fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(one, _), (two, _)| one.total_cmp(two))
        .map(|(_, candidate)| candidate)
}
