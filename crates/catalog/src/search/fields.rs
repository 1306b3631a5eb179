//! Which texts of an entry are searched, by field.

use crate::entry::{Entry, Kind};
use crate::json::Json;

/// Fields, in the order of their weights.
pub(super) const FIELDS: usize = 6;

/// Longest text of one field that is indexed, in bytes: bounds what one tool can cost everybody.
const MAX_FIELD_BYTES: usize = 8 * 1024;

/// How deep nested arguments are searched by.
const MAX_DEPTH: usize = 3;

/// The texts of an entry: name, title, description, argument names, argument descriptions, server.
#[derive(Debug, Default)]
pub(crate) struct Texts(pub(super) [String; FIELDS]);

/// The texts of an entry, read from its raw definition.
pub(crate) fn texts_of(entry: &Entry) -> Texts {
    let mut texts = Texts::default();
    let json = Json::parse(entry.raw.get()).unwrap_or(Json::Null);
    let name = match entry.kind {
        Kind::Tool | Kind::Prompt => &*entry.reference.name,
        Kind::Resource | Kind::Template => json.text("name").unwrap_or(&entry.reference.name),
    };
    texts.push(0, name);
    texts.push(1, entry.title.as_deref().unwrap_or_default());
    texts.push(2, json.text("description").unwrap_or(&entry.summary));
    match entry.kind {
        Kind::Tool => {
            if let Some(schema) = json.get("inputSchema") {
                texts.arguments(schema, 0);
            }
        }
        Kind::Prompt => {
            for argument in json.get("arguments").map(Json::items).unwrap_or_default() {
                texts.push(3, argument.text("name").unwrap_or_default());
                texts.push(4, argument.text("description").unwrap_or_default());
            }
        }
        Kind::Resource | Kind::Template => texts.push(3, &entry.reference.name),
    }
    texts.push(5, entry.reference.server.as_str());
    texts
}

impl Texts {
    fn push(&mut self, field: usize, text: &str) {
        let slot = &mut self.0[field];
        let room = MAX_FIELD_BYTES.saturating_sub(slot.len());
        if text.is_empty() || room == 0 {
            return;
        }
        let end = (0..=room.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end));
        slot.push_str(&text[..end.unwrap_or(0)]);
        slot.push('\n');
    }

    fn arguments(&mut self, schema: &Json, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        for (name, argument) in schema
            .get("properties")
            .map(Json::members)
            .unwrap_or_default()
        {
            self.push(3, name);
            self.push(4, argument.text("description").unwrap_or_default());
            self.arguments(argument, depth + 1);
            if let Some(items) = argument.get("items") {
                self.arguments(items, depth + 1);
            }
        }
    }
}
