//! `x-mcp-header` in input schemas: a modern server's tool whose annotation is invalid must not be used over HTTP.
//!
//! Owns the check only; headers themselves are sent by the transport.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::json::Json;

const ANNOTATION: &str = "x-mcp-header";

/// Whether every annotation of a tool is a unique HTTP token on a primitive property that is reached through
/// `properties` alone. A tool that cannot be read is kept: it is marked elsewhere and cannot be called.
pub(crate) fn are_valid(tool: &RawValue) -> bool {
    if !tool.get().contains(ANNOTATION) {
        return true;
    }
    let Ok(json) = Json::parse(tool.get()) else {
        return true;
    };
    let Some(schema) = json.get("inputSchema") else {
        return true;
    };
    let mut seen = HashSet::new();
    schema.get(ANNOTATION).is_none() && members_are_valid(schema, &mut seen)
}

/// The members of a schema that stands on a path of `properties` from the root.
fn members_are_valid(schema: &Json, seen: &mut HashSet<String>) -> bool {
    schema
        .members()
        .iter()
        .all(|(key, value)| match key.as_str() {
            "properties" => value
                .members()
                .iter()
                .all(|(_, property)| property_is_valid(property, seen)),
            // Values, not schemas.
            "default" | "const" | "enum" | "examples" => true,
            _ => is_free_of_annotations(value),
        })
}

fn property_is_valid(property: &Json, seen: &mut HashSet<String>) -> bool {
    let annotation_is_valid = match property.get(ANNOTATION) {
        None => true,
        Some(Json::String(header)) => {
            let primitive = matches!(
                property.text("type"),
                Some("string" | "integer" | "boolean")
            );
            primitive && is_token(header) && seen.insert(header.to_ascii_lowercase())
        }
        Some(_) => false,
    };
    annotation_is_valid && members_are_valid(property, seen)
}

fn is_free_of_annotations(value: &Json) -> bool {
    match value {
        Json::Object(members) => members
            .iter()
            .all(|(key, value)| key != ANNOTATION && is_free_of_annotations(value)),
        Json::Array(items) => items.iter().all(is_free_of_annotations),
        _ => true,
    }
}

fn is_token(header: &str) -> bool {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    !header.is_empty() && header.bytes().all(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(schema: &str) -> bool {
        let tool = format!(r#"{{"name":"t","inputSchema":{schema}}}"#);
        are_valid(&RawValue::from_string(tool).unwrap())
    }

    #[test]
    fn only_unique_tokens_on_primitive_properties_are_valid() {
        for good in [
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"Region"},"b":{"type":"integer","x-mcp-header":"Zone"}}}"#,
            r#"{"properties":{"o":{"type":"object","properties":{"a":{"type":"boolean","x-mcp-header":"A"}}}}}"#,
            r#"{"properties":{"a":{"default":{"x-mcp-header":1}}}}"#,
        ] {
            assert!(valid(good), "{good}");
        }
        for bad in [
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"R"},"b":{"type":"string","x-mcp-header":"r"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"a\r\nX: 1"}}}"#,
            r#"{"properties":{"a":{"type":"number","x-mcp-header":"N"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":7}}}"#,
            r#"{"oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#,
            r#"{"x-mcp-header":"Root"}"#,
        ] {
            assert!(!valid(bad), "{bad}");
        }
    }
}
