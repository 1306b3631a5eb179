//! JSON values and names as a shape writes them: compact, with everything unseen escaped.

use std::fmt::Write as _;

use crate::clean;
use crate::json::Json;

/// Compact JSON. Hidden characters, and `…` which marks loss, are written as escapes.
pub(super) fn of(value: &Json) -> String {
    match value {
        // 5.0 and 5 are one number; the shorter is shown.
        Json::Float(n) if n.fract() == 0.0 && n.abs() < 1e15 => format!("{n:.0}"),
        value => escaped(&value.compact()),
    }
}

/// A property name: bare where it can stand bare, else a JSON string.
pub(super) fn name(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        of(&Json::String(name.to_owned()))
    }
}

/// The text with hidden characters and `…` as `\u` escapes.
pub(super) fn escaped(text: &str) -> String {
    let unseen = |c: char| c == '…' || clean::is_hidden(c) || c == '\n' || c == '\r' || c == '\t';
    if !text.contains(unseen) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut units = [0_u16; 2];
    for c in text.chars() {
        if unseen(c) {
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a JSON number is this count.
pub(super) fn same_count(number: f64, count: usize) -> bool {
    format!("{number:.0}") == count.to_string()
}
