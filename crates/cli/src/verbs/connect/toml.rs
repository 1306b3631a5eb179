//! Puts the entry into a TOML text: comments, order and layout of the rest stay. Pure.

use serde_json::Value;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, value};

use super::entry::{Entry, Member, Refused};
use crate::position::line_and_column;

/// The text with the entry; the same text when it has it already.
///
/// # Errors
/// When the text is no TOML, or cannot take the entry.
pub(crate) fn with_entry(text: &str, entry: &Entry) -> Result<String, Refused> {
    let before = read(text)?;
    let expected = entry.expected(before.clone())?;
    if expected == before {
        return Ok(text.to_owned());
    }
    let mut document: DocumentMut = text.parse().map_err(|error| syntax(text, &error))?;
    let mut at: &mut dyn TableLike = document.as_table_mut();
    for key in entry.place {
        let shape = || Refused::Shape(format!("`{key}`"));
        let missing = || {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        };
        let item = at.entry(key).or_insert_with(missing);
        at = item.as_table_like_mut().ok_or_else(shape)?;
    }
    put(at, entry)?;
    let after = document.to_string();
    // Whatever the text looked like, what counts is what it now says.
    if read(&after)? == expected {
        Ok(after)
    } else {
        Err(Refused::Unsafe)
    }
}

fn read(text: &str) -> Result<Value, Refused> {
    toml_edit::de::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = line_and_column(text, at);
        let what = error.message().to_owned();
        Refused::Syntax { line, column, what }
    })
}

fn put(servers: &mut dyn TableLike, entry: &Entry) -> Result<(), Refused> {
    let Some(old) = servers.get_mut(&entry.name) else {
        let mut table = Table::new();
        set(&mut table, &entry.members);
        servers.insert(&entry.name, Item::Table(table));
        return Ok(());
    };
    let taken = || Refused::Taken(entry.name.clone());
    let old = old.as_table_like_mut().ok_or_else(taken)?;
    for name in entry.obsolete() {
        old.remove(name);
    }
    set(old, &entry.members);
    Ok(())
}

fn set(table: &mut dyn TableLike, wanted: &[(&'static str, Member)]) {
    for (name, member) in wanted {
        match (table.get_mut(name), member) {
            (Some(old), Member::Table(wanted)) if old.is_table_like() => {
                if let Some(inner) = old.as_table_like_mut() {
                    set(inner, wanted);
                }
            }
            (Some(Item::Value(old)), member) if says(old, member) => {}
            (Some(Item::Value(old)), member) => {
                let mut new = written(member);
                // Blanks and the comment after the old value belong to its line.
                *new.decor_mut() = old.decor().clone();
                *old = new;
            }
            (_, member) => {
                table.insert(name, value(written(member)));
            }
        }
    }
}

/// Whether a value says it already, however it is laid out.
fn says(value: &toml_edit::Value, member: &Member) -> bool {
    match member {
        Member::Text(text) => value.as_str() == Some(text),
        Member::Flag(flag) => value.as_bool() == Some(*flag),
        Member::List(items) => value.as_array().is_some_and(|array| {
            let texts = array.iter().map(toml_edit::Value::as_str);
            texts.eq(items.iter().map(|item| Some(item.as_str())))
        }),
        Member::Table(_) => false,
    }
}

fn written(member: &Member) -> toml_edit::Value {
    match member {
        Member::Text(text) => text.as_str().into(),
        Member::Flag(flag) => (*flag).into(),
        Member::List(items) => items.iter().collect::<Array>().into(),
        Member::Table(members) => members
            .iter()
            .map(|(name, member)| (*name, written(member)))
            .collect::<InlineTable>()
            .into(),
    }
}

fn syntax(text: &str, error: &toml_edit::TomlError) -> Refused {
    let at = error.span().map_or(0, |span| span.start);
    let (line, column) = line_and_column(text, at);
    let what = error.message().to_owned();
    Refused::Syntax { line, column, what }
}
