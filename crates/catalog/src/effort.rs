//! How many subschemas a validator may visit for one value: what bounds of the schema alone cannot tell.
//!
//! A schema that refers to itself twice for the same part of a value doubles the work with every level of the value:
//! a few dozen levels, and no validator ends. Counts; never validates.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::bounds::goes_into_the_value;
use crate::json::Json;
use crate::schema::{Document, reference};

/// Deepest value told apart; JSON is read no deeper.
const MAX_DEPTH: usize = 128;

/// Visits for one path down a value, by the value's depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effort(Vec<u64>);

impl Effort {
    /// Of a schema that is within [`bounds`](crate::bounds).
    #[must_use]
    pub fn of(schema: &RawValue) -> Self {
        let Ok(json) = Json::parse(schema.get()) else {
            return Self(vec![1]);
        };
        let mut count = Count {
            document: Document::new(&json),
            here: HashMap::new(),
            known: HashMap::new(),
        };
        Self(
            (0..=MAX_DEPTH)
                .map(|depth| count.visits(&json, depth))
                .collect(),
        )
    }

    /// At most so many visits for this value.
    #[must_use]
    pub fn steps(&self, value: &Value) -> u64 {
        let mut leaves = 0;
        let depth = measure(value, &mut leaves);
        let path = self.0.get(depth).or(self.0.last()).copied().unwrap_or(1);
        path.saturating_mul(leaves)
    }
}

/// The depth of a value, and how many paths lead down it.
fn measure(value: &Value, leaves: &mut u64) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(|item| measure(item, leaves)).max(),
        Value::Object(members) => members.values().map(|one| measure(one, leaves)).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    if below.is_none() {
        *leaves += 1;
    }
    below.map_or(0, |below| below + 1)
}

/// What looks at a value itself, and what at its parts.
#[derive(Default)]
struct Here<'a> {
    visits: u64,
    items: Vec<&'a Json>,
    by_name: HashMap<&'a str, Vec<&'a Json>>,
    other_members: Vec<&'a Json>,
}

struct Count<'a> {
    document: Document<'a>,
    here: HashMap<*const Json, Rc<Here<'a>>>,
    known: HashMap<(*const Json, usize), u64>,
}

impl<'a> Count<'a> {
    fn visits(&mut self, node: &'a Json, depth: usize) -> u64 {
        let key = (std::ptr::from_ref(node), depth);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let here = self.here(node);
        let below = if depth == 0 {
            0
        } else {
            // A value is an array or an object, and one path goes through one of its members.
            let items = self.sum(&here.items, depth - 1);
            let named = here.by_name.values();
            let named = named.map(|nodes| self.sum(nodes, depth - 1)).max();
            let others = self.sum(&here.other_members, depth - 1);
            items.max(others.saturating_add(named.unwrap_or(0)))
        };
        let visits = here.visits.saturating_add(below);
        self.known.insert(key, visits);
        visits
    }

    fn sum(&mut self, nodes: &[&'a Json], depth: usize) -> u64 {
        let visits = nodes.iter().map(|node| self.visits(node, depth));
        visits.fold(0, u64::saturating_add)
    }

    /// The node and all that looks at the same value: references and branches. Ends, since the bounds refuse
    /// references that come back to themselves in place.
    fn here(&mut self, node: &'a Json) -> Rc<Here<'a>> {
        let id = std::ptr::from_ref(node);
        if let Some(known) = self.here.get(&id) {
            return Rc::clone(known);
        }
        let mut here = Here {
            visits: 1,
            ..Here::default()
        };
        if let Some(target) = reference(node).and_then(|target| self.document.resolve(target)) {
            here.add(&self.here(target));
        }
        for (key, value) in node.members() {
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
        self.visits = self.visits.saturating_add(other.visits);
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
    fn work_grows_with_the_value_s_width() {
        let list = r#"{"items":{"properties":{"a":{"type":"string"},"b":{"type":"string"}}}}"#;
        let wide = format!("[{}]", vec![r#"{"a":"x"}"#; 1_000].join(","));
        let steps = steps(list, &wide);
        assert!((1_000..10_000).contains(&steps), "{steps}");
    }
}
