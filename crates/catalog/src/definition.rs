//! One raw definition as an entry: what is shown of it, its hash, its marks. Never fails: `None` leaves it out.

use std::sync::Arc;

use serde_json::value::RawValue;
use transports::ServerName;

use crate::bounds;
use crate::clean;
use crate::entry::{Entry, Hints, Kind, Ref};
use crate::hash;
use crate::json::{Json, Members};
use crate::shape;
use crate::summary;

/// Longest name of a tool, resource, template or prompt, in bytes; long enough for a URI.
pub const MAX_NAME_BYTES: usize = 2_048;

/// Reads one definition. `None` when it is no object or has no usable name: none, empty, longer than
/// [`MAX_NAME_BYTES`], or with control characters, which would break every line it stands in.
pub(crate) fn read(server: &ServerName, kind: Kind, raw: &Arc<RawValue>) -> Option<Entry> {
    let members = Members::parse(raw.get())?;
    let name = members.text(name_member(kind))?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return None;
    }
    let reference = Ref {
        server: server.clone(),
        name: Arc::from(name),
    };
    Some(match strictly(raw) {
        Ok(json) => understood(reference, kind, &json, raw),
        Err(reason) => unreadable(reference, kind, &members, (raw, reason)),
    })
}

fn name_member(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool | Kind::Prompt => "name",
        Kind::Resource => "uri",
        Kind::Template => "uriTemplate",
    }
}

fn strictly(raw: &RawValue) -> Result<Json, String> {
    if raw.get().len() > bounds::MAX_DEFINITION_BYTES {
        return Err(format!(
            "the definition has more than {} bytes",
            bounds::MAX_DEFINITION_BYTES
        ));
    }
    Json::parse(raw.get()).map_err(|error| format!("the definition cannot be read: {error}"))
}

fn understood(reference: Ref, kind: Kind, json: &Json, raw: &Arc<RawValue>) -> Entry {
    let annotations = json.get("annotations");
    let title = json
        .text("title")
        .or_else(|| annotations.and_then(|a| a.text("title")))
        .or_else(|| {
            json.text("name")
                .filter(|_| matches!(kind, Kind::Resource | Kind::Template))
        });
    let unsupported_schema = match kind {
        Kind::Tool => unsupported(json),
        Kind::Resource | Kind::Template | Kind::Prompt => None,
    };
    let shape = match (kind, &unsupported_schema) {
        (Kind::Tool, Some(_)) => shape::UNREADABLE.to_owned(),
        (Kind::Tool, None) => json
            .get("inputSchema")
            .map_or_else(|| "()".to_owned(), shape::of_schema),
        (Kind::Prompt, _) => shape::of_strings(&prompt_arguments(json)),
        (Kind::Template, _) => shape::of_strings(&template_variables(&reference.name)),
        (Kind::Resource, _) => String::new(),
    };
    Entry {
        kind,
        title: title.and_then(summary::of_title),
        summary: summary::of_description(json.text("description").unwrap_or_default()),
        shape,
        hash: hash::of_definition(kind, json),
        hints: hints(annotations),
        unsupported_schema,
        flagged: clean::holds_hidden(&reference.name) || hides_anything(json),
        look_alike: false,
        raw: Arc::clone(raw),
        reference,
    }
}

/// Listed with what can be told, hashed by its bytes, and marked: it cannot be called.
fn unreadable(
    reference: Ref,
    kind: Kind,
    members: &Members<'_>,
    (raw, reason): (&Arc<RawValue>, String),
) -> Entry {
    let description = members.text("description").unwrap_or_default();
    let title = members.text("title");
    Entry {
        kind,
        title: title.as_deref().and_then(summary::of_title),
        summary: summary::of_description(&description),
        shape: match kind {
            Kind::Resource => String::new(),
            Kind::Tool | Kind::Template | Kind::Prompt => shape::UNREADABLE.to_owned(),
        },
        hash: hash::of_unreadable(raw.get()),
        hints: Hints::default(),
        unsupported_schema: Some(reason),
        flagged: [
            reference.name.as_ref(),
            &description,
            title.as_deref().unwrap_or_default(),
        ]
        .iter()
        .any(|text| clean::holds_hidden(text)),
        look_alike: false,
        raw: Arc::clone(raw),
        reference,
    }
}

/// Why a tool cannot be called. Output schemas are never compiled by listing or calling, so they mark nothing.
fn unsupported(json: &Json) -> Option<String> {
    let schema = json.get("inputSchema")?;
    if !matches!(schema, Json::Object(_)) {
        return Some("inputSchema is no object".to_owned());
    }
    // The strict reading drops white space only, so the compact size is the smaller one.
    let size_bytes = schema.compact().len();
    if size_bytes > bounds::MAX_SCHEMA_BYTES {
        return Some(bounds::OverBounds::Bytes(size_bytes).to_string());
    }
    bounds::check_parsed(schema)
        .err()
        .map(|over| over.to_string())
}

fn hints(annotations: Option<&Json>) -> Hints {
    let hint = |key: &str, absent: bool| match annotations.and_then(|a| a.get(key)) {
        Some(Json::Bool(value)) => *value,
        _ => absent,
    };
    let absent = Hints::default();
    Hints {
        read_only: hint("readOnlyHint", absent.read_only),
        destructive: hint("destructiveHint", absent.destructive),
        idempotent: hint("idempotentHint", absent.idempotent),
        open_world: hint("openWorldHint", absent.open_world),
    }
}

fn prompt_arguments(json: &Json) -> Vec<(String, bool)> {
    let arguments = json.get("arguments").map(Json::items).unwrap_or_default();
    arguments
        .iter()
        .filter_map(|argument| {
            let required = argument.get("required").is_some_and(Json::is_true);
            Some((argument.text("name")?.to_owned(), required))
        })
        .collect()
}

/// The variables of an RFC 6570 template; those of query and continuation expressions may be left out.
fn template_variables(template: &str) -> Vec<(String, bool)> {
    let expressions = template
        .split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}'));
    let mut variables: Vec<(String, bool)> = Vec::new();
    for (expression, _) in expressions {
        let required = !expression.starts_with(['?', '&']);
        let names = expression.trim_start_matches(['+', '#', '.', '/', ';', '?', '&']);
        for name in names.split(',') {
            let name = name
                .trim_end_matches('*')
                .split(':')
                .next()
                .unwrap_or_default();
            if !name.is_empty() && variables.iter().all(|(known, _)| known != name) {
                variables.push((name.to_owned(), required));
            }
        }
    }
    variables
}

/// Whether any text of the definition, names of properties included, hides characters.
fn hides_anything(json: &Json) -> bool {
    match json {
        Json::String(text) => clean::holds_hidden(text),
        Json::Array(items) => items.iter().any(hides_anything),
        Json::Object(members) => members
            .iter()
            .any(|(key, value)| clean::holds_hidden(key) || hides_anything(value)),
        Json::Null | Json::Bool(_) | Json::Unsigned(_) | Json::Signed(_) | Json::Float(_) => false,
    }
}
