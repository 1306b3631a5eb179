//! What differs between a pinned definition and a new one, as people and models may safely read it. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::PointerDetail;

/// Members that a pin covers, as the hash does.
const MEMBERS: [&str; 6] = [
    "name",
    "title",
    "description",
    "inputSchema",
    "outputSchema",
    "annotations",
];
/// Places told; a definition that differs in more is another tool.
const MAX_PLACES: usize = 20;
/// Characters shown of one value.
const MAX_SHOWN_CHARS: usize = 160;
/// Characters shown before the first one that differs.
const CONTEXT_CHARS: usize = 24;

/// Every place that differs, bounded. Hidden characters are shown by their numbers.
pub(super) fn differences(old: &str, new: &str) -> Vec<PointerDetail> {
    let (Ok(old), Ok(new)) = (
        serde_json::from_str::<Value>(old),
        serde_json::from_str::<Value>(new),
    ) else {
        return vec![PointerDetail {
            pointer: String::new(),
            detail: "the definition cannot be read as JSON".to_owned(),
        }];
    };
    let mut places = Vec::new();
    for member in MEMBERS {
        compare(
            &format!("/{member}"),
            (old.get(member), new.get(member)),
            &mut places,
        );
    }
    if places.is_empty() {
        // Such as a member that stands twice, which a plain reading does not see.
        places.push(PointerDetail {
            pointer: String::new(),
            detail: "the definition is written differently".to_owned(),
        });
    }
    if places.len() > MAX_PLACES {
        let more = places.len() - MAX_PLACES;
        places.truncate(MAX_PLACES);
        places.push(PointerDetail {
            pointer: String::new(),
            detail: format!("and {more} more differences"),
        });
    }
    places
}

fn compare(
    pointer: &str,
    (old, new): (Option<&Value>, Option<&Value>),
    places: &mut Vec<PointerDetail>,
) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let escaped = name.replace('~', "~0").replace('/', "~1");
            let place = format!("{pointer}/{escaped}");
            compare(&place, (old.get(name), new.get(name)), places);
        }
        return;
    }
    let (was, now) = (text(old), text(new));
    let from = first_difference(&was, &now).saturating_sub(CONTEXT_CHARS);
    places.push(PointerDetail {
        pointer: catalog::revealed(pointer).into_owned(),
        detail: format!("was {}; now {}", shown(&was, from), shown(&now, from)),
    });
}

fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}

fn first_difference(one: &str, other: &str) -> usize {
    let same = one.chars().zip(other.chars());
    same.take_while(|(a, b)| a == b).count()
}

/// The part of a value around its first difference.
fn shown(text: &str, from: usize) -> String {
    let revealed = catalog::revealed(text);
    // Hidden characters before the place only move it to the right, out of what is skipped.
    let part: String = revealed.chars().skip(from).take(MAX_SHOWN_CHARS).collect();
    let before = if from > 0 { "…" } else { "" };
    let after = if revealed.chars().count() > from + MAX_SHOWN_CHARS {
        "…"
    } else {
        ""
    };
    format!("{before}{part}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(old: &str, new: &str) -> Vec<String> {
        let places = differences(old, new);
        places
            .iter()
            .map(|one| format!("{} {}", one.pointer, one.detail))
            .collect()
    }

    #[test]
    fn each_place_is_told_with_what_was_and_what_is() {
        let old = r#"{"name":"t","description":"Reads.","inputSchema":{"properties":{"a/b":{"type":"string"}}},"_meta":{"x":1}}"#;
        let new = r#"{"name":"t","description":"Reads!","inputSchema":{"properties":{"a/b":{"type":"number"}}},"annotations":{"readOnlyHint":true}}"#;
        assert_eq!(
            told(old, new),
            [
                r#"/description was "Reads."; now "Reads!""#,
                r#"/inputSchema/properties/a~1b/type was "string"; now "number""#,
                r#"/annotations was absent; now {"readOnlyHint":true}"#,
            ]
        );
    }

    #[test]
    fn one_hidden_character_deep_in_a_long_text_is_shown_by_its_number() {
        let long = "word ".repeat(500);
        let old = format!(r#"{{"description":"{long}end"}}"#);
        let new = format!("{{\"description\":\"{long}\u{200b}end\"}}");
        let told = told(&old, &new);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(r"\u{200b}end"), "{told:?}");
        assert!(told[0].chars().count() < 400, "{told:?}");
    }

    #[test]
    fn what_is_told_is_bounded() {
        let many: Vec<String> = (0..100).map(|n| format!(r#""p{n}":{n}"#)).collect();
        let new = format!(
            r#"{{"inputSchema":{{"properties":{{{}}}}}}}"#,
            many.join(",")
        );
        let told = told(r#"{"inputSchema":{"properties":{}}}"#, &new);
        assert_eq!(told.len(), MAX_PLACES + 1);
        assert!(told[MAX_PLACES].contains("80 more"), "{told:?}");
    }
}
