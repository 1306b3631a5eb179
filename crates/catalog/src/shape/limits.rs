//! Bounds in the notation of shapes: `1..100`, `>0`, `%5`, `date-time`, `/regex/`.

use crate::json::Json;
use crate::shape::literal;

/// Longest regular expression shown, in characters.
const MAX_REGEX_CHARS: usize = 32;

/// The largest integer JavaScript holds exactly; generators write it where no bound was meant.
const SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

pub(super) fn of_string(node: &Json) -> Option<String> {
    let format = node.text("format").map(literal::escaped);
    let regex = node.text("pattern").map(|pattern| {
        if pattern.chars().count() > MAX_REGEX_CHARS {
            "/…/".to_owned()
        } else {
            format!("/{}/", literal::escaped(pattern))
        }
    });
    joined([range(node, "minLength", "maxLength"), format, regex])
}

pub(super) fn of_number(node: &Json) -> Option<String> {
    joined([
        range(node, "minimum", "maximum"),
        number(node, "exclusiveMinimum").map(|n| format!(">{n}")),
        number(node, "exclusiveMaximum").map(|n| format!("<{n}")),
        number(node, "multipleOf").map(|n| format!("%{n}")),
    ])
}

/// A tuple says its own length.
pub(super) fn of_array(node: &Json) -> Option<String> {
    let tuple = node.get("prefixItems").or_else(|| node.get("items"))?;
    let length = tuple.items().len();
    let says_length = |key: &str| {
        let count = node.get(key).and_then(Json::as_f64);
        count.is_none_or(|count| literal::same_count(count, length))
    };
    if length > 0 && says_length("minItems") && says_length("maxItems") {
        return None;
    }
    joined([range(node, "minItems", "maxItems")])
}

pub(super) fn of_object(node: &Json) -> Option<String> {
    joined([range(node, "minProperties", "maxProperties")])
}

/// Whether a node that names no type bounds one.
pub(super) fn any(node: &Json) -> bool {
    of_string(node).is_some()
        || of_number(node).is_some()
        || of_object(node).is_some()
        || ["minItems", "maxItems"]
            .iter()
            .any(|key| node.get(key).is_some())
}

fn range(node: &Json, min: &str, max: &str) -> Option<String> {
    let low = number(node, min);
    let high = number(node, max);
    (low.is_some() || high.is_some())
        .then(|| format!("{}..{}", low.unwrap_or_default(), high.unwrap_or_default()))
}

fn number(node: &Json, key: &str) -> Option<String> {
    let value = node.get(key)?;
    let size = value.as_f64()?;
    let meant = size.abs() != SAFE_INTEGER;
    meant.then(|| literal::of(value))
}

fn joined<const N: usize>(items: [Option<String>; N]) -> Option<String> {
    let items: Vec<String> = items.into_iter().flatten().collect();
    (!items.is_empty()).then(|| format!("<{}>", items.join(" ")))
}
