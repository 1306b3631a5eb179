//! What a schema makes of a text that could be a number, a flag or JSON. Pure.

use serde_json::Value;

/// Deepest chain of local `$ref`s that is followed to a property's type.
const MAX_REF_DEPTH: usize = 8;

/// Whether the schema wants `value` rather than the same text as a string: a string that fits goes first.
pub(super) fn accepts(schema: &Value, root: Option<&Value>, value: &Value, text: &str) -> bool {
    let mut wanted = Wanted::default();
    wanted.collect(schema, root, MAX_REF_DEPTH);
    if wanted.enumerated.iter().any(|member| member == text) {
        return false;
    }
    if wanted.enumerated.contains(value) {
        return true;
    }
    if wanted.types.is_empty() {
        return wanted.enumerated.is_empty();
    }
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(_) => "string",
    };
    let has = |wanted_name: &str| wanted.types.iter().any(|one| one == wanted_name);
    let integer = name == "number" && has("integer");
    !has("string") && (has(name) || integer)
}

/// The types and fixed values a schema names, its branches included.
#[derive(Debug, Default)]
struct Wanted {
    types: Vec<String>,
    enumerated: Vec<Value>,
}

impl Wanted {
    fn collect(&mut self, schema: &Value, root: Option<&Value>, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else {
            return;
        };
        match schema.get("type") {
            Some(Value::String(one)) => self.types.push(one.clone()),
            Some(Value::Array(many)) => self
                .types
                .extend(many.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => {}
        }
        self.enumerated.extend(schema.get("const").cloned());
        if let Some(Value::Array(members)) = schema.get("enum") {
            self.enumerated.extend(members.iter().cloned());
        }
        for branches in ["anyOf", "oneOf", "allOf"] {
            let branches = schema.get(branches).and_then(Value::as_array);
            for branch in branches.into_iter().flatten() {
                self.collect(branch, root, depth);
            }
        }
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| reference.strip_prefix('#'))
            .and_then(|pointer| root?.pointer(pointer));
        if let Some(target) = target {
            self.collect(target, root, depth);
        }
    }
}
