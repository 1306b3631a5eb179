//! Puts the entry into a JSON or JSONC text: comments, order and indentation of the rest stay. Pure.

use jsonc_parser::cst::{CstObject, CstObjectProp, CstRootNode};
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::{Value, json};

use super::entry::{Entry, Member, Refused, asks_for_the_key};
use crate::position::line_and_column;

/// Comments and trailing commas, as the hosts' own readers take them, and nothing beyond.
const READ: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Byte order marks of files that Windows editors wrote.
const MARK: char = '\u{feff}';

/// The text with the entry; the same text when it has it already.
///
/// # Errors
/// When the text is no JSON, or cannot take the entry.
pub(crate) fn with_entry(text: &str, entry: &Entry) -> Result<String, Refused> {
    let (mark, text) = match text.strip_prefix(MARK) {
        Some(rest) => ("\u{feff}", rest),
        None => ("", text),
    };
    let before = read(text)?;
    let expected = entry.expected(before.clone())?;
    if expected == before && !text.trim().is_empty() {
        return Ok(format!("{mark}{text}"));
    }
    let root = CstRootNode::parse(text, &READ).map_err(|error| syntax(text, &error))?;
    let whole = || Refused::Shape("content".to_owned());
    let mut at = root.object_value_or_create().ok_or_else(whole)?;
    let document = at.clone();
    for key in entry.place {
        let shape = || Refused::Shape(format!("`{key}`"));
        at = at.object_value_or_create(key).ok_or_else(shape)?;
    }
    put(&at, entry)?;
    if let Some(input) = &entry.input {
        let shape = || Refused::Shape("`inputs`".to_owned());
        let inputs = document.array_value_or_create("inputs").ok_or_else(shape)?;
        let known = inputs.elements();
        let known = known.iter().filter_map(|input| says(&input.to_string()));
        if !known.into_iter().any(|input| asks_for_the_key(&input)) {
            inputs.ensure_multiline();
            inputs.append(input.input());
        }
    }
    let mut after = root.to_string();
    if !after.ends_with('\n') {
        after.push('\n');
    }
    // Whatever the text looked like, what counts is what it now says.
    if read(&after)? == expected {
        Ok(format!("{mark}{after}"))
    } else {
        Err(Refused::Unsafe)
    }
}

/// What a text says; an empty one says nothing yet.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn read(text: &str) -> Result<Value, Refused> {
    let text = text.trim_start_matches(MARK);
    let said: Option<Value> =
        parse_to_serde_value(text, &READ).map_err(|error| syntax(text, &error))?;
    Ok(said.unwrap_or_else(|| json!({})))
}

fn says(text: &str) -> Option<Value> {
    parse_to_serde_value(text, &READ).ok()
}

fn put(servers: &CstObject, entry: &Entry) -> Result<(), Refused> {
    let Some(old) = servers.get(&entry.name) else {
        servers.append(&entry.name, Member::Table(entry.members.clone()).input());
        return Ok(());
    };
    let taken = || Refused::Taken(entry.name.clone());
    let old = old.object_value().ok_or_else(taken)?;
    for name in entry.obsolete() {
        if let Some(member) = old.get(name) {
            member.remove();
        }
    }
    set(&old, &entry.members);
    Ok(())
}

fn set(object: &CstObject, wanted: &[(&'static str, Member)]) {
    for (name, member) in wanted {
        let old = object.get(name);
        let inner = old.as_ref().and_then(CstObjectProp::object_value);
        match (old, inner, member) {
            (Some(_), Some(inner), Member::Table(wanted)) => set(&inner, wanted),
            (Some(old), _, member) => {
                let said = old.value().and_then(|value| says(&value.to_string()));
                if said.as_ref() != Some(&member.value()) {
                    old.set_value(member.input());
                }
            }
            (None, _, member) => {
                object.append(name, member.input());
            }
        }
    }
}

fn syntax(text: &str, error: &jsonc_parser::errors::ParseError) -> Refused {
    let (line, column) = line_and_column(text, error.range().start);
    let what = error.kind().to_string();
    Refused::Syntax { line, column, what }
}
