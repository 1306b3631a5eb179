//! How many subschemas a validator may visit for one value: what bounds of the schema alone cannot tell.
//!
//! A schema that refers to itself twice for the same part of a value doubles the work with every level of the value:
//! a few dozen levels, and no validator ends. A regular expression goes through all of a text, and slowly if it is made
//! for that. Counts; never validates.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::bounds::goes_into_the_value;
use crate::json::Json;
use crate::schema::{Document, reference};

/// Deepest value told apart; JSON is read no deeper.
const MAX_DEPTH: usize = 128;

/// So many bytes of a text cost one regular expression at its slowest about what a visit costs.
const TEXT_BYTES_PER_STEP: u64 = 8;

/// Work for one path down a value, by the value's depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effort(Vec<Work>);

/// Work for one path down a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Work {
    visits: u64,
    /// Regular expressions that a text there is held against.
    regexes: u64,
}

impl Work {
    fn and(self, other: Self) -> Self {
        Self {
            visits: self.visits.saturating_add(other.visits),
            regexes: self.regexes.saturating_add(other.regexes),
        }
    }

    /// At most either.
    fn or(self, other: Self) -> Self {
        Self {
            visits: self.visits.max(other.visits),
            regexes: self.regexes.max(other.regexes),
        }
    }
}

/// What of a value makes work.
#[derive(Debug, Default)]
struct Size {
    /// Paths that lead down it.
    leaves: u64,
    /// Texts and names of members.
    text_bytes: u64,
}

impl Effort {
    /// Of a schema that is within [`bounds`](crate::bounds).
    #[must_use]
    pub fn of(schema: &RawValue) -> Self {
        let Ok(json) = Json::parse(schema.get()) else {
            return Self(vec![Work {
                visits: 1,
                regexes: 0,
            }]);
        };
        let mut count = Count {
            document: Document::new(&json),
            here: HashMap::new(),
            known: HashMap::new(),
        };
        Self(
            (0..=MAX_DEPTH)
                .map(|depth| count.work(&json, depth))
                .collect(),
        )
    }

    /// At most so many visits for this value, or work that is worth as many.
    #[must_use]
    pub fn steps(&self, value: &Value) -> u64 {
        let mut size = Size::default();
        let depth = measure(value, &mut size);
        let path = self.0.get(depth).or(self.0.last()).copied();
        let path = path.unwrap_or_default();
        let visits = path.visits.max(1).saturating_mul(size.leaves);
        let read = path.regexes.saturating_mul(size.text_bytes);
        visits.saturating_add(read / TEXT_BYTES_PER_STEP)
    }
}

/// The depth of a value, and its size.
fn measure(value: &Value, size: &mut Size) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(|item| measure(item, size)).max(),
        Value::Object(members) => {
            let member = |(name, one): (&String, &Value)| {
                size.text_bytes += name.len() as u64;
                measure(one, size)
            };
            members.iter().map(member).max()
        }
        Value::String(text) => {
            size.text_bytes += text.len() as u64;
            None
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    };
    if below.is_none() {
        size.leaves += 1;
    }
    below.map_or(0, |below| below + 1)
}

/// What looks at a value itself, and what at its parts.
#[derive(Default)]
struct Here<'a> {
    work: Work,
    items: Vec<&'a Json>,
    by_name: HashMap<&'a str, Vec<&'a Json>>,
    other_members: Vec<&'a Json>,
}

struct Count<'a> {
    document: Document<'a>,
    here: HashMap<*const Json, Rc<Here<'a>>>,
    known: HashMap<(*const Json, usize), Work>,
}

impl<'a> Count<'a> {
    fn work(&mut self, node: &'a Json, depth: usize) -> Work {
        let key = (std::ptr::from_ref(node), depth);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let here = self.here(node);
        let below = if depth == 0 {
            Work::default()
        } else {
            // A value is an array or an object, and one path goes through one of its members.
            let items = self.sum(&here.items, depth - 1);
            let named = here.by_name.values();
            let named = named.map(|nodes| self.sum(nodes, depth - 1));
            let named = named.fold(Work::default(), Work::or);
            let others = self.sum(&here.other_members, depth - 1);
            items.or(others.and(named))
        };
        let work = here.work.and(below);
        self.known.insert(key, work);
        work
    }

    fn sum(&mut self, nodes: &[&'a Json], depth: usize) -> Work {
        let work = nodes.iter().map(|node| self.work(node, depth));
        work.fold(Work::default(), Work::and)
    }

    /// The node and all that looks at the same value: references and branches. Ends, since the bounds refuse
    /// references that come back to themselves in place.
    fn here(&mut self, node: &'a Json) -> Rc<Here<'a>> {
        let id = std::ptr::from_ref(node);
        if let Some(known) = self.here.get(&id) {
            return Rc::clone(known);
        }
        let mut here = Here {
            work: Work {
                visits: 1,
                regexes: 0,
            },
            ..Here::default()
        };
        if let Some(target) = reference(node).and_then(|target| self.document.resolve(target)) {
            here.add(&self.here(target));
        }
        for (key, value) in node.members() {
            here.work.regexes += match (key.as_str(), value) {
                ("pattern", _) => 1,
                // Each is held against the names of the members.
                ("patternProperties", Json::Object(members)) => members.len() as u64,
                _ => 0,
            };
            match (key.as_str(), value) {
                ("properties", Json::Object(members)) => {
                    for (name, child) in members {
                        here.by_name.entry(name).or_default().push(child);
                    }
                }
                (
                    "patternProperties"
                    | "additionalProperties"
                    | "unevaluatedProperties"
                    | "propertyNames",
                    _,
                ) => here
                    .other_members
                    .extend(crate::bounds::children(key, value)),
                (key, value) if goes_into_the_value(key) => {
                    here.items.extend(crate::bounds::children(key, value));
                }
                (key, value) => {
                    for child in crate::bounds::children(key, value) {
                        here.add(&self.here(child));
                    }
                }
            }
        }
        let here = Rc::new(here);
        self.here.insert(id, Rc::clone(&here));
        here
    }
}

impl Here<'_> {
    fn add(&mut self, other: &Self) {
        self.work = self.work.and(other.work);
        self.items.extend(&other.items);
        self.other_members.extend(&other.other_members);
        for (name, nodes) in &other.by_name {
            self.by_name.entry(name).or_default().extend(nodes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(schema: &str, value: &str) -> u64 {
        let schema = RawValue::from_string(schema.to_owned()).unwrap();
        crate::bounds::check(&schema).unwrap();
        Effort::of(&schema).steps(&serde_json::from_str(value).unwrap())
    }

    fn nested(depth: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
    }

    #[test]
    fn a_schema_that_doubles_with_the_value_is_seen_to() {
        let twice =
            r##"{"anyOf":[{"properties":{"a":{"$ref":"#"}}},{"properties":{"a":{"$ref":"#"}}}]}"##;
        assert!(steps(twice, &nested(4)) < 200);
        assert!(steps(twice, &nested(60)) > 1 << 59);
        let through_definitions = r##"{"$ref":"#/$defs/t","$defs":{"t":{"allOf":[{"$ref":"#/$defs/u"},{"$ref":"#/$defs/u"}]},
            "u":{"additionalProperties":{"$ref":"#/$defs/t"}}}}"##;
        assert!(steps(through_definitions, &nested(60)) > 1 << 59);
    }

    #[test]
    fn recursion_that_visits_each_part_once_stays_small() {
        let tree = r##"{"$ref":"#/$defs/t","$defs":{"t":{"properties":{"a":{"$ref":"#/$defs/t"},"b":{"$ref":"#/$defs/t"}}}}}"##;
        assert!(steps(tree, &nested(100)) < 1_000);
        let any_json = r##"{"anyOf":[{"type":"array","items":{"$ref":"#"}},{"type":"object","additionalProperties":{"$ref":"#"}},
            {"type":["string","number"]}]}"##;
        assert!(steps(any_json, &nested(100)) < 1_000);
    }

    #[test]
    fn regular_expressions_go_through_every_byte() {
        let text = format!(r#"{{"s":"{}"}}"#, "a".repeat(8_000));
        let one = r#"{"properties":{"s":{"pattern":"a"},"t":{"pattern":"b"}}}"#;
        assert!(steps(one, &text) < 2_000);
        let many = vec![r#"{"pattern":"a"}"#; 100].join(",");
        let many = format!(r#"{{"properties":{{"s":{{"anyOf":[{many}]}}}}}}"#);
        assert!(steps(&many, &text) > 100_000);
        let names = format!(r#"{{"{}":1}}"#, "a".repeat(8_000));
        let by_name = r#"{"patternProperties":{"a":{},"b":{},"c":{}}}"#;
        assert!(steps(by_name, &names) > 3_000);
    }

    #[test]
    fn work_grows_with_the_value_s_width() {
        let list = r#"{"items":{"properties":{"a":{"type":"string"},"b":{"type":"string"}}}}"#;
        let wide = format!("[{}]", vec![r#"{"a":"x"}"#; 1_000].join(","));
        let steps = steps(list, &wide);
        assert!((1_000..10_000).contains(&steps), "{steps}");
    }
}
