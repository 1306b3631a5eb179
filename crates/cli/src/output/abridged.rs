//! A JSON document that is too long, as a short one that says where the whole is. Pure.

use std::path::Path;

use serde_json::{Map, Value, json};

/// Longest top-level text that is kept beside the preview of a truncated JSON document.
const MAX_KEPT_MEMBER_BYTES: usize = 256;

/// What a part says about the whole.
pub(super) fn truncation(
    shown_bytes: usize,
    total_bytes: usize,
    path: &Path,
) -> Map<String, Value> {
    let mut mark = Map::new();
    mark.insert("truncated".to_owned(), json!(true));
    mark.insert("shown_bytes".to_owned(), json!(shown_bytes));
    mark.insert("total_bytes".to_owned(), json!(total_bytes));
    mark.insert("path".to_owned(), json!(path.display().to_string()));
    mark
}

/// A valid document in place of a too long one: its short members, and its beginning as text.
pub(super) fn abridged(document: &str, path: &Path, cap: usize) -> String {
    let mut short = Map::new();
    if let Ok(Value::Object(members)) = serde_json::from_str(document) {
        let small = |value: &Value| !value.is_object() && !value.is_array();
        let fits = |value: &Value| {
            value
                .as_str()
                .is_none_or(|t| t.len() <= MAX_KEPT_MEMBER_BYTES)
        };
        short.extend(members.into_iter().filter(|(_, v)| small(v) && fits(v)));
    }
    // Escaping makes the preview longer, so it is halved until the whole fits; 0 always ends it.
    let mut preview_bytes = cap;
    loop {
        preview_bytes /= 2;
        let end = document.floor_char_boundary(preview_bytes);
        let mut whole = short.clone();
        whole.extend(truncation(end, document.len(), path));
        whole.insert("preview".to_owned(), json!(&document[..end]));
        let text = Value::Object(whole).to_string();
        if text.len() < cap || preview_bytes == 0 {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abridged_document_is_valid_short_and_keeps_the_small_members() {
        let document =
            json!({"ok": true, "call_id": "call_1", "content": [{"text": "\u{1}".repeat(5000)}]});
        let text = abridged(&document.to_string(), Path::new("/state/x.json"), 1024);
        assert!(text.len() <= 1024, "{}", text.len());
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["ok"], true);
        assert_eq!(read["call_id"], "call_1");
        assert_eq!(read["truncated"], true);
        assert_eq!(read["path"], "/state/x.json");
        assert!(read.get("content").is_none());
    }
}
