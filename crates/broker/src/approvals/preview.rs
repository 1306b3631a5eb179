//! What a person sees before deciding: the call in words, its arguments, what the tool says of itself, and what was
//! called before. Bounded, without secrets, with everything visible that could mislead.

use catalog::Hints;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::visible::visible;
use crate::arguments::Arguments;
use crate::definition::{Definition, Redactions, TransportKind};
use crate::instant::rfc3339;
use crate::ledger::Row;
use crate::redaction::{MASK, is_secret_name};

/// Calls told of in `history`.
pub(crate) const HISTORY: usize = 5;
/// Longest text and most members shown of one value; what is left out is said.
const MAX_CHARS: usize = 1024;
const MAX_MEMBERS: usize = 50;
/// Largest preview of arguments, in bytes of JSON; over it only names and types are shown.
const MAX_BYTES: usize = 16 * 1024;
/// Parts of names whose values are secrets more often than not, beside those every text is cleaned by: a preview shows
/// rather too little.
const SECRET_NAMES: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "authorization",
    "credential",
    "privatekey",
];

/// What a person decides by.
#[derive(Debug, Serialize)]
pub(crate) struct Preview {
    summary: String,
    arguments: Value,
    annotations: Annotations,
    /// The very request that would be sent, where the bridge itself makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<ResolvedRequest>,
    history: Vec<Earlier>,
}

/// What the tool says of itself, after its owner's overrides.
#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the four hints of the protocol"
)]
struct Annotations {
    read_only: bool,
    destructive: bool,
    idempotent: bool,
    open_world: bool,
}

/// A request of the bridge's own making.
#[derive(Debug, Serialize)]
pub(crate) struct ResolvedRequest {
    method: String,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

/// An earlier call of the same tool by the same user.
#[derive(Debug, Serialize)]
struct Earlier {
    call_id: String,
    state: &'static str,
    created_at: String,
    arguments: String,
}

/// What a preview is about.
pub(crate) struct About<'a> {
    pub(crate) reference: &'a str,
    pub(crate) user: &'a str,
    pub(crate) hints: Hints,
    pub(crate) definition: &'a Definition,
    pub(crate) redactions: &'a Redactions,
}

impl Preview {
    pub(crate) fn of(about: &About<'_>, arguments: &Arguments, history: &[Row]) -> Self {
        let hints = about.hints;
        let effect = match (hints.read_only, hints.destructive) {
            (true, _) => "reads",
            (false, true) => "may destroy",
            (false, false) => "changes",
        };
        let summary = format!("{} calls {} ({effect})", about.user, about.reference);
        let shown = shown(&arguments.value, about.redactions);
        let fits = shown.to_string().len() <= MAX_BYTES;
        Self {
            summary: visible(&summary),
            arguments: if fits {
                shown
            } else {
                json!(format!(
                    "too large to show: {{{}}}",
                    visible(&arguments.preview())
                ))
            },
            annotations: Annotations {
                read_only: hints.read_only,
                destructive: hints.destructive,
                idempotent: hints.idempotent,
                open_world: hints.open_world,
            },
            request: resolved(about.definition),
            history: history.iter().map(earlier).collect(),
        }
    }

    /// In one line, for lists.
    pub(crate) fn summary(&self) -> &str {
        &self.summary
    }
}

/// The request itself, for servers the bridge speaks for. Those that speak MCP make their own of the arguments.
fn resolved(definition: &Definition) -> Option<ResolvedRequest> {
    match definition.transport {
        TransportKind::Stdio
        | TransportKind::StreamableHttp
        | TransportKind::Sse
        | TransportKind::Tunnel => None,
    }
}

fn earlier(row: &Row) -> Earlier {
    Earlier {
        call_id: row.intent.id.to_string(),
        state: row.state.as_str(),
        created_at: rfc3339(row.intent.created_at),
        arguments: visible(&row.intent.preview),
    }
}

/// A value without secrets, with what is left out said.
fn shown(value: &Value, redactions: &Redactions) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => json!(text_shown(text, redactions)),
        Value::Array(all) => {
            let some = all
                .iter()
                .take(MAX_MEMBERS)
                .map(|one| shown(one, redactions));
            let mut some: Vec<Value> = some.collect();
            if all.len() > MAX_MEMBERS {
                some.push(json!(format!("… {} more", all.len() - MAX_MEMBERS)));
            }
            Value::Array(some)
        }
        Value::Object(all) => {
            let mut some = Map::new();
            for (name, one) in all.iter().take(MAX_MEMBERS) {
                let one = if is_secret(name) {
                    json!(MASK)
                } else {
                    shown(one, redactions)
                };
                some.insert(text_shown(name, redactions), one);
            }
            if all.len() > MAX_MEMBERS {
                some.insert(
                    "…".to_owned(),
                    json!(format!("{} more", all.len() - MAX_MEMBERS)),
                );
            }
            Value::Object(some)
        }
    }
}

fn text_shown(text: &str, redactions: &Redactions) -> String {
    let clean = redactions.clean(text);
    match clean.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => {
            let left_out = clean[at..].chars().count();
            format!("{}… {left_out} more characters", visible(&clean[..at]))
        }
        None => visible(&clean),
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(|one| one.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    is_secret_name(name) || SECRET_NAMES.iter().any(|secret| plain.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_hidden_characters_shown_and_long_texts_cut_aloud() {
        let value = json!({
            "to": "ann\u{202e}", "API-Key": "k", "nested": [{"client_secret": {"a": 1}}],
            "session-cookie": "c", "accessKey": "k", "secretive": "s",
            "long": "x".repeat(2000), "many": vec![1; 60], "bad\u{200b}name": 1,
        });
        let shown = shown(&value, &Redactions::default());
        assert_eq!(shown["to"], "ann<U+202E>");
        for name in ["API-Key", "session-cookie", "accessKey", "secretive"] {
            assert_eq!(shown[name], MASK, "{name}");
        }
        assert_eq!(shown["nested"][0]["client_secret"], "[redacted]");
        assert!(
            shown["long"]
                .as_str()
                .unwrap()
                .ends_with("… 976 more characters")
        );
        assert_eq!(shown["many"][50], "… 10 more");
        assert_eq!(shown["bad<U+200B>name"], 1);
    }
}
