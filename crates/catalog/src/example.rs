//! Plausible arguments for help: what is required, with values the schema itself suggests where it does.

use crate::json::Json;
use crate::schema::{Document, merge, reference, without};

/// Values made for one example; more helps nobody.
const MAX_VALUES: usize = 200;

/// Nesting of one example.
const MAX_DEPTH: usize = 8;

/// Longest string made up to satisfy a `minLength`, in characters.
const MAX_MADE_UP_CHARS: usize = 200;

/// An object with the required members of a schema.
pub(crate) fn of_schema(schema: Option<&Json>) -> Json {
    let Some(schema) = schema else {
        return Json::Object(Vec::new());
    };
    let mut maker = Maker {
        document: Document::new(schema),
        made: 0,
    };
    maker.object(&maker.flat(schema), 0)
}

/// An object with the required arguments of a prompt, which are all strings.
pub(crate) fn of_prompt(arguments: Option<&Json>) -> Json {
    let arguments = arguments.map(Json::items).unwrap_or_default();
    let required = arguments
        .iter()
        .filter(|a| a.get("required").is_some_and(Json::is_true));
    let named = required.filter_map(|a| a.text("name")).take(MAX_VALUES);
    Json::Object(
        named
            .map(|name| (name.to_owned(), text("example")))
            .collect(),
    )
}

struct Maker<'a> {
    document: Document<'a>,
    made: usize,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Json, depth: usize) -> Json {
        self.made += 1;
        if self.made > MAX_VALUES || depth > MAX_DEPTH {
            return Json::Null;
        }
        if let Some(suggested) = suggestion(schema) {
            return suggested.clone();
        }
        let node = self.flat(schema);
        if let Some(suggested) = suggestion(&node) {
            return suggested.clone();
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(first) = node.get(key).and_then(|branches| branches.items().first()) {
                let (both, _lost) = merge(&without(&node, key), &self.flat(first));
                return self.value(&both, depth + 1);
            }
        }
        self.by_type(&node, depth)
    }

    fn by_type(&mut self, node: &Json, depth: usize) -> Json {
        let named = match node.get("type") {
            Some(Json::String(name)) => Some(name.as_str()),
            Some(Json::Array(names)) => names
                .iter()
                .filter_map(Json::as_str)
                .find(|name| *name != "null"),
            _ => None,
        };
        match named {
            Some("integer" | "number") => number(node),
            Some("boolean") => Json::Bool(true),
            Some("null") => Json::Null,
            Some("array") => self.array(node, depth),
            Some("object") => self.object(node, depth),
            None if node.get("properties").is_some() => self.object(node, depth),
            None if node.get("items").is_some() => self.array(node, depth),
            _ => string(node),
        }
    }

    /// One item, so that a reader sees what goes in; more where the schema wants more.
    fn array(&mut self, node: &Json, depth: usize) -> Json {
        let tuple = node.get("prefixItems").map(Json::items).unwrap_or_default();
        if !tuple.is_empty() {
            return Json::Array(
                tuple
                    .iter()
                    .map(|item| self.value(item, depth + 1))
                    .collect(),
            );
        }
        let wanted = node.get("minItems").and_then(Json::as_f64).unwrap_or(1.0);
        let wanted = (1..=MAX_DEPTH)
            .rev()
            .find(|count| literal_count(*count) <= wanted);
        let any = Json::Object(Vec::new());
        let item = node
            .get("items")
            .filter(|items| matches!(items, Json::Object(_)));
        let items = (0..wanted.unwrap_or(1)).map(|_| self.value(item.unwrap_or(&any), depth + 1));
        Json::Array(items.collect())
    }

    fn object(&mut self, node: &Json, depth: usize) -> Json {
        let required = node.get("required").map(Json::items).unwrap_or_default();
        let properties = node
            .get("properties")
            .map(Json::members)
            .unwrap_or_default();
        let wanted = |name: &str| required.iter().any(|known| known.as_str() == Some(name));
        let members = properties
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, schema)| (name.clone(), self.value(schema, depth + 1)));
        Json::Object(members.collect())
    }

    /// The node with its references and `allOf` put in place, a bounded number of times.
    fn flat(&self, node: &Json) -> Json {
        let mut flat = node.clone();
        for _ in 0..MAX_DEPTH {
            if let Some(found) = reference(&flat).and_then(|target| self.document.resolve(target)) {
                flat = merge(&without(&flat, "$ref"), found).0;
            } else if let Some(parts) = flat.get("allOf").cloned() {
                flat = without(&flat, "allOf");
                for part in parts.items() {
                    let target = reference(part).and_then(|target| self.document.resolve(target));
                    flat = merge(&flat, target.unwrap_or(part)).0;
                }
            } else {
                break;
            }
        }
        flat
    }
}

/// What the schema itself suggests.
fn suggestion(schema: &Json) -> Option<&Json> {
    let first = |key: &str| schema.get(key).and_then(|values| values.items().first());
    schema
        .get("const")
        .or_else(|| schema.get("default").filter(|value| **value != Json::Null))
        .or_else(|| first("enum"))
        .or_else(|| first("examples"))
        .or_else(|| schema.get("example"))
}

fn number(node: &Json) -> Json {
    let bound = |key: &str| node.get(key).and_then(Json::as_f64);
    let step = bound("multipleOf")
        .filter(|step| *step > 0.0)
        .unwrap_or(1.0);
    let low = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|low| low + step));
    let high = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|high| high - step));
    let mut value = step.max(low.unwrap_or(step));
    if let Some(high) = high {
        value = value.min(high);
    }
    if node.text("type") == Some("integer") {
        value = value.ceil();
    }
    if value.fract() == 0.0 {
        // Whole numbers are written without a point.
        let whole = format!("{value:.0}").parse();
        return whole.map_or(Json::Float(value), Json::Signed);
    }
    Json::Float(value)
}

fn string(node: &Json) -> Json {
    let made_up = match node.text("format") {
        Some("date-time") => "2026-01-31T12:00:00Z",
        Some("date") => "2026-01-31",
        Some("time") => "12:00:00Z",
        Some("uri" | "url" | "iri" | "uri-reference") => "https://example.com/",
        Some("email" | "idn-email") => "someone@example.com",
        Some("uuid") => "123e4567-e89b-42d3-a456-426614174000",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("hostname") => "example.com",
        _ => "example",
    };
    let at_least = node.get("minLength").and_then(Json::as_f64).unwrap_or(0.0);
    let at_most = node
        .get("maxLength")
        .and_then(Json::as_f64)
        .unwrap_or(f64::MAX);
    let mut made_up: String = made_up
        .chars()
        .enumerate()
        .take_while(|(position, _)| literal_count(*position) < at_most)
        .map(|(_, c)| c)
        .collect();
    while literal_count(made_up.len()) < at_least && made_up.len() < MAX_MADE_UP_CHARS {
        made_up.push('x');
    }
    text(&made_up)
}

fn text(text: &str) -> Json {
    Json::String(text.to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few hundred")]
fn literal_count(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(schema: &str) -> String {
        of_schema(Some(&Json::parse(schema).unwrap())).compact()
    }

    #[test]
    fn required_members_get_plausible_values_in_schema_order() {
        let schema = r##"{"properties":{
            "q":{"type":"string"},"n":{"type":"integer","minimum":5,"maximum":9},"skip":{"type":"string"},
            "m":{"enum":["fast","deep"]},"d":{"type":"string","default":"x"},"w":{"type":"string","format":"date"},
            "e":{"type":"string","examples":["seen"]},"t":{"type":"array","items":{"type":"string"}},
            "o":{"$ref":"#/$defs/o"},"u":{"anyOf":[{"type":"boolean"},{"type":"null"}]},"f":{"type":"number","exclusiveMaximum":1}},
            "required":["o","q","n","m","d","w","e","t","u","f"],
            "$defs":{"o":{"type":"object","properties":{"a":{"type":"string","minLength":9}},"required":["a"]}}}"##;
        assert_eq!(
            example(schema),
            r#"{"q":"example","n":5,"m":"fast","d":"x","w":"2026-01-31","e":"seen","t":["example"],"o":{"a":"examplexx"},"u":true,"f":0}"#
        );
        assert_eq!(example("{}"), "{}");
    }

    #[test]
    fn recursion_ends() {
        let schema = r##"{"properties":{"a":{"$ref":"#"}},"required":["a"]}"##;
        assert!(example(schema).len() < 200);
    }
}
