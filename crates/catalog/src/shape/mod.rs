//! A schema as one line: `(q, filter: {field, op?: "eq"|"lt"}, limit?: int<1..100> = 10)`.
//!
//! Required arguments first, `: string` left out, `…` (or `enum(N)`) the only mark of loss: a shape without one is
//! exact but for descriptions, titles, examples and whether more properties may be added. Same schema, same shape.

mod expand;
mod limits;
mod literal;
mod model;
mod reader;

use std::fmt::Write as _;

use crate::json::Json;
use model::{Alt, Field, Form, Type};

/// Longest shape, in characters: 96 of 100 real tools fit whole, at 11 tokens each on average.
pub const MAX_SHAPE_CHARS: usize = 240;

/// Enums with more members show [`SHOWN`] of them.
const MAX_ENUM: usize = 8;

/// Unions with more alternatives show [`SHOWN`] of them.
const MAX_UNION: usize = 6;

/// How many members are shown of what has too many.
const SHOWN: usize = 5;

/// The shape of an input schema that is within bounds.
pub(crate) fn of_schema(schema: &Json) -> String {
    let (fields, lost) = reader::of_root(schema);
    of_fields(&fields, lost)
}

/// The shape of arguments that are all strings, as prompts and templates have: name and whether required.
pub(crate) fn of_strings(arguments: &[(String, bool)]) -> String {
    let mut fields: Vec<Field> = arguments
        .iter()
        .map(|(name, required)| Field {
            name: name.clone(),
            required: *required,
            kind: Type::of(Form::Plain("string")),
            default: None,
        })
        .collect();
    fields.sort_by_key(|field| !field.required);
    of_fields(&fields, false)
}

/// The shape of what cannot be read.
pub(crate) const UNREADABLE: &str = "(…)";

fn of_fields(fields: &[Field], lost: bool) -> String {
    let mut shape = String::new();
    for level in Level::ALL {
        let mut writer = Writer {
            out: String::new(),
            level,
            lost,
        };
        writer.signature(fields);
        shape = writer.out;
        if shape.chars().count() <= MAX_SHAPE_CHARS {
            return shape;
        }
    }
    let mut cut: String = shape.chars().take(MAX_SHAPE_CHARS - 1).collect();
    cut.push('…');
    cut
}

/// How much is left out; each level leaves out what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Whole,
    NoBounds,
    NoDefaults,
    NoNested,
    NoEnums,
    NoOptional,
}

impl Level {
    const ALL: [Self; 6] = [
        Self::Whole,
        Self::NoBounds,
        Self::NoDefaults,
        Self::NoNested,
        Self::NoEnums,
        Self::NoOptional,
    ];
}

struct Writer {
    out: String,
    level: Level,
    /// A constraint or default was left out.
    lost: bool,
}

impl Writer {
    fn signature(&mut self, fields: &[Field]) {
        self.out.push('(');
        if self.level >= Level::NoOptional {
            let (required, optional): (Vec<&Field>, Vec<&Field>) =
                fields.iter().partition(|field| field.required);
            self.fields(required.iter().copied());
            if !optional.is_empty() {
                let comma = if required.is_empty() { "" } else { ", " };
                let _ = write!(self.out, "{comma}…{} optional", optional.len());
            }
        } else {
            self.fields(fields.iter());
        }
        self.out.push(')');
        if self.lost {
            self.out.push('…');
        }
    }

    fn fields<'f>(&mut self, fields: impl Iterator<Item = &'f Field>) {
        for (position, field) in fields.enumerate() {
            if position > 0 {
                self.out.push_str(", ");
            }
            self.field(field);
        }
    }

    fn field(&mut self, field: &Field) {
        self.out.push_str(&literal::name(&field.name));
        if !field.required {
            self.out.push('?');
        }
        let kind = self.kind(&field.kind).0;
        if kind != "string" {
            self.out.push_str(": ");
            self.out.push_str(&kind);
        }
        match &field.default {
            Some(_) if self.level >= Level::NoDefaults => self.lost = true,
            Some(default) => {
                let _ = write!(self.out, " = {default}");
            }
            None => {}
        }
    }

    /// The type as text, and whether it is a union.
    fn kind(&mut self, kind: &Type) -> (String, bool) {
        let mut parts: Vec<String> = Vec::new();
        for alt in &kind.0 {
            for part in self.alternative(alt) {
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        let one_enum = matches!(
            kind.0.as_slice(),
            [Alt {
                form: Form::Enum(_),
                ..
            }]
        );
        if !one_enum && kind.0.len() > MAX_UNION && parts.len() > MAX_UNION {
            parts.truncate(SHOWN);
            parts.push("…".to_owned());
        }
        (parts.join("|"), parts.len() > 1)
    }

    fn alternative(&mut self, alt: &Alt) -> Vec<String> {
        let text = match &alt.form {
            Form::Enum(values) => return self.members(values),
            Form::Plain(name) => (*name).to_owned(),
            Form::Again(name) => name.clone(),
            Form::Elided => "{…}".to_owned(),
            Form::Fields(_) | Form::Map(_) if self.level >= Level::NoNested => "{…}".to_owned(),
            Form::Fields(fields) => {
                let inner = self.apart(|writer| writer.fields(fields.iter()));
                format!("{{{inner}}}")
            }
            Form::Map(value) => format!("{{[k]: {}}}", self.kind(value).0),
            Form::Tuple(items) => {
                let items: Vec<String> = items.iter().map(|item| self.kind(item).0).collect();
                format!("[{}]", items.join(", "))
            }
            Form::Array(item) => match self.kind(item) {
                (item, true) => format!("({item})[]"),
                (item, false) => format!("{item}[]"),
            },
        };
        if alt.bounds.is_empty() {
            return vec![text];
        }
        if self.level >= Level::NoBounds {
            self.lost = true;
            return vec![text];
        }
        vec![format!("{text}{}", alt.bounds)]
    }

    fn members(&self, values: &[String]) -> Vec<String> {
        if self.level >= Level::NoEnums && values.len() > 1 {
            return vec![format!("enum({})", values.len())];
        }
        if values.len() <= MAX_ENUM {
            return values.to_vec();
        }
        let mut shown = values[..SHOWN].to_vec();
        shown.push(format!("…{}", values.len() - SHOWN));
        shown
    }

    /// What `write` writes, not yet put in place.
    fn apart(&mut self, write: impl FnOnce(&mut Self)) -> String {
        let outer = std::mem::take(&mut self.out);
        write(self);
        std::mem::replace(&mut self.out, outer)
    }
}

#[cfg(test)]
mod tests;
