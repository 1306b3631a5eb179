//! Example arguments for a schema: the required members, with the plainest value each allows. Pure.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Deepest nesting shown in an example.
const MAX_DEPTH: usize = 6;
/// Most members of one object shown in an example.
const MAX_MEMBERS: usize = 32;

/// Arguments that satisfy the required part of a schema, as far as it says plainly what that is.
#[must_use]
pub(crate) fn example(schema: &RawValue) -> Value {
    match serde_json::from_str::<Value>(schema.get()) {
        Ok(root) => object(&root, &root, 0),
        Err(_) => json!({}),
    }
}

fn object(schema: &Value, root: &Value, depth: usize) -> Value {
    let mut members = Map::new();
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().take(MAX_MEMBERS) {
        let Some(name) = name.as_str() else { continue };
        let member = schema.get("properties").and_then(|all| all.get(name));
        let value = member.map_or(Value::Null, |member| value(member, root, depth + 1));
        members.insert(name.to_owned(), value);
    }
    Value::Object(members)
}

fn value(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    for key in ["default", "const"] {
        if let Some(given) = schema.get(key) {
            return given.clone();
        }
    }
    for key in ["examples", "enum"] {
        if let Some(first) = schema.get(key).and_then(|list| list.get(0)) {
            return first.clone();
        }
    }
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        let target = path.strip_prefix('#').and_then(|path| root.pointer(path));
        return target.map_or(Value::Null, |target| value(target, root, depth + 1));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.get(key).and_then(|list| list.get(0)) {
            return value(first, root, depth + 1);
        }
    }
    match kind(schema) {
        "string" => text(schema),
        "integer" | "number" => number(schema),
        "boolean" => json!(false),
        "array" => list(schema, root, depth),
        "object" => object(schema, root, depth),
        _ => Value::Null,
    }
}

fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or("null"),
        _ if schema.get("properties").is_some() => "object",
        _ => "",
    }
}

fn text(schema: &Value) -> Value {
    let plain = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-31T12:00:00Z",
        Some("date") => "2026-01-31",
        Some("uri") => "https://example.com/",
        Some("email") => "a@example.com",
        Some("uuid") => "01890000-0000-7000-8000-000000000000",
        _ => "text",
    };
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0);
    let least = usize::try_from(least.min(64)).unwrap_or(0);
    json!(format!("{plain:x<least$}"))
}

fn number(schema: &Value) -> Value {
    let bound = |key| schema.get(key).filter(|bound| bound.is_number()).cloned();
    bound("minimum")
        .or_else(|| bound("maximum"))
        .unwrap_or_else(|| json!(1))
}

fn list(schema: &Value, root: &Value, depth: usize) -> Value {
    let needed = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0) > 0;
    match schema.get("items") {
        Some(items) if needed => json!([value(items, root, depth + 1)]),
        _ => json!([]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_holds_the_required_members_and_fits_the_schema() {
        let schema = json!({
            "type": "object",
            "required": ["q", "n", "mode", "when", "nested", "tags"],
            "properties": {
                "q": {"type": "string", "minLength": 8}, "n": {"type": "integer", "minimum": 3},
                "mode": {"enum": ["fast", "slow"]}, "when": {"type": "string", "format": "date"},
                "nested": {"$ref": "#/$defs/nested"}, "tags": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                "optional": {"type": "string"}
            },
            "$defs": {"nested": {"type": "object", "required": ["x"], "properties": {"x": {"type": ["null", "boolean"]}}}}
        });
        let raw = serde_json::value::to_raw_value(&schema).unwrap();
        let example = example(&raw);
        assert_eq!(example["q"], "textxxxx");
        assert_eq!(example["nested"], json!({"x": false}));
        assert!(example.get("optional").is_none());
        assert!(
            jsonschema::validator_for(&schema)
                .unwrap()
                .is_valid(&example)
        );
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let raw = RawValue::from_string(
            r##"{"required":["a"],"properties":{"a":{"$ref":"#/properties/a"}}}"##.to_owned(),
        );
        assert_eq!(example(&raw.unwrap()), json!({"a": null}));
    }
}
