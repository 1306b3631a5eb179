//! What a schema may cost. A schema over these bounds marks its own tool and hurts nobody else.
//!
//! Checks before anything is compiled or validated: eight lines of schema can otherwise stop a core.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::json::Json;
use crate::schema::{Document, reference};

/// Largest definition of one entry, in bytes; the largest real one seen has 30 kB.
pub const MAX_DEFINITION_BYTES: usize = 1024 * 1024;

/// Largest schema, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;

/// Deepest nesting of a schema with its references followed; stands well inside a thread's stack.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// Most subschemas once every reference is replaced by what it points at; a validator may visit each for one value.
pub const MAX_EXPANDED_SUBSCHEMAS: u64 = 10_000;

/// Longest regular expression, in bytes.
pub const MAX_REGEX_BYTES: usize = 1_000;

/// Most regular expressions of one schema; each is compiled.
pub const MAX_REGEXES: usize = 200;

/// A schema is over a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverBounds {
    /// It is no schema: neither an object nor a boolean, or not readable strictly.
    #[error("the schema cannot be read: {0}")]
    Unreadable(String),
    /// Over [`MAX_SCHEMA_BYTES`].
    #[error("the schema has {0} bytes, more than {MAX_SCHEMA_BYTES}")]
    Bytes(usize),
    /// Over [`MAX_SCHEMA_DEPTH`].
    #[error("the schema nests deeper than {MAX_SCHEMA_DEPTH}")]
    Depth,
    /// Over [`MAX_EXPANDED_SUBSCHEMAS`].
    #[error("the schema expands to more than {MAX_EXPANDED_SUBSCHEMAS} subschemas")]
    Expansion,
    /// A reference that leaves the schema or points nowhere. Nothing is ever fetched.
    #[error("the schema refers to `{0}`, which is not in it")]
    Reference(String),
    /// A reference that comes back to itself without going into the value: no validator would end.
    #[error("the schema refers to `{0}` from itself without end")]
    Endless(String),
    /// Over [`MAX_REGEX_BYTES`] or [`MAX_REGEXES`].
    #[error(
        "the schema has a regular expression longer than {MAX_REGEX_BYTES} bytes, or more than {MAX_REGEXES}"
    )]
    Regex,
}

/// Checks a raw schema against every bound.
///
/// # Errors
/// [`OverBounds`] with the first bound that is passed.
pub fn check(schema: &RawValue) -> Result<(), OverBounds> {
    let size_bytes = schema.get().len();
    if size_bytes > MAX_SCHEMA_BYTES {
        return Err(OverBounds::Bytes(size_bytes));
    }
    let json = Json::parse(schema.get()).map_err(|e| OverBounds::Unreadable(e.to_string()))?;
    check_parsed(&json)
}

/// As [`check`], for a schema whose size is known to be fine.
pub(crate) fn check_parsed(schema: &Json) -> Result<(), OverBounds> {
    if !matches!(schema, Json::Object(_) | Json::Bool(_)) {
        return Err(OverBounds::Unreadable("it is no object".to_owned()));
    }
    let mut walk = Walk {
        document: Document::new(schema),
        active: Vec::new(),
        known: HashMap::new(),
        regexes: 0,
    };
    walk.subschemas(schema, 1, 0)?;
    walk.unused_definitions(schema)
}

struct Walk<'a> {
    document: Document<'a>,
    /// References being followed, with how far into the value each began.
    active: Vec<(*const Json, usize)>,
    /// Subschemas and height of a reference's target, once followed.
    known: HashMap<*const Json, (u64, usize)>,
    regexes: usize,
}

/// Subschemas of a node and how deep it nests below itself.
type Size = (u64, usize);

impl<'a> Walk<'a> {
    /// `depth` counts schema nesting, `into` how far into the value the node looks.
    fn subschemas(
        &mut self,
        node: &'a Json,
        depth: usize,
        into: usize,
    ) -> Result<Size, OverBounds> {
        if depth > MAX_SCHEMA_DEPTH {
            return Err(OverBounds::Depth);
        }
        let mut total: Size = (1, 0);
        if let Some(target) = reference(node) {
            add(&mut total, self.follow(target, depth, into)?)?;
        }
        for (key, value) in node.members() {
            self.regex(key, value)?;
            let deeper = into + usize::from(goes_into_the_value(key));
            for child in children(key, value) {
                add(&mut total, self.subschemas(child, depth + 1, deeper)?)?;
            }
        }
        Ok(total)
    }

    fn follow(&mut self, target: &str, depth: usize, into: usize) -> Result<Size, OverBounds> {
        let Some(node) = self.document.resolve(target) else {
            return Err(OverBounds::Reference(target.chars().take(200).collect()));
        };
        let id = std::ptr::from_ref(node);
        if let Some((_, began)) = self.active.iter().rev().find(|(open, _)| *open == id) {
            return if *began == into {
                Err(OverBounds::Endless(target.chars().take(200).collect()))
            } else {
                Ok((1, 0))
            };
        }
        if let Some(size) = self.known.get(&id) {
            return if depth + size.1 > MAX_SCHEMA_DEPTH {
                Err(OverBounds::Depth)
            } else {
                Ok(*size)
            };
        }
        self.active.push((id, into));
        let size = self.subschemas(node, depth + 1, into);
        self.active.pop();
        let size = size?;
        self.known.insert(id, size);
        Ok(size)
    }

    fn regex(&mut self, key: &str, value: &Json) -> Result<(), OverBounds> {
        let (count, longest) = match (key, value) {
            ("pattern", Json::String(pattern)) => (1, pattern.len()),
            ("patternProperties", Json::Object(patterns)) => (
                patterns.len(),
                patterns.iter().map(|(key, _)| key.len()).max().unwrap_or(0),
            ),
            _ => return Ok(()),
        };
        self.regexes += count;
        if longest > MAX_REGEX_BYTES || self.regexes > MAX_REGEXES {
            return Err(OverBounds::Regex);
        }
        Ok(())
    }

    /// Definitions nobody refers to are compiled all the same: each is checked on its own.
    fn unused_definitions(&mut self, root: &'a Json) -> Result<(), OverBounds> {
        for key in ["$defs", "definitions"] {
            for (_, node) in root.get(key).map(Json::members).unwrap_or_default() {
                if !self.known.contains_key(&std::ptr::from_ref(node)) {
                    self.active.push((std::ptr::from_ref(node), 0));
                    let size = self.subschemas(node, 1, 0);
                    self.active.pop();
                    self.known.insert(std::ptr::from_ref(node), size?);
                }
            }
        }
        Ok(())
    }
}

fn add(total: &mut Size, part: Size) -> Result<(), OverBounds> {
    total.0 = total.0.saturating_add(part.0);
    total.1 = total.1.max(part.1 + 1);
    if total.0 > MAX_EXPANDED_SUBSCHEMAS {
        return Err(OverBounds::Expansion);
    }
    Ok(())
}

/// Whether subschemas under this keyword look at a part of the value instead of the value itself.
pub(crate) fn goes_into_the_value(key: &str) -> bool {
    !matches!(
        key,
        "allOf"
            | "anyOf"
            | "oneOf"
            | "not"
            | "if"
            | "then"
            | "else"
            | "dependentSchemas"
            | "dependencies"
    )
}

/// The subschemas a keyword holds. Definitions count where they are referred to.
pub(crate) fn children<'a>(key: &str, value: &'a Json) -> Vec<&'a Json> {
    match (key, value) {
        (
            "properties" | "patternProperties" | "dependentSchemas" | "dependencies",
            Json::Object(members),
        ) => members.iter().map(|(_, child)| child).collect(),
        ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Json::Array(items)) => {
            items.iter().collect()
        }
        (
            "items"
            | "additionalItems"
            | "additionalProperties"
            | "contains"
            | "propertyNames"
            | "not"
            | "if"
            | "then"
            | "else"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "contentSchema",
            Json::Object(_),
        ) => vec![value],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(schema: &str) -> Result<(), OverBounds> {
        check(&RawValue::from_string(schema.to_owned()).unwrap())
    }

    #[test]
    fn a_chain_of_doubling_definitions_is_refused_at_once() {
        let defs: Vec<String> = (0..28)
            .map(|n| {
                format!(
                    r##""d{n}":{{"allOf":[{{"$ref":"#/$defs/d{m}"}},{{"$ref":"#/$defs/d{m}"}}]}}"##,
                    m = n + 1
                )
            })
            .chain([r#""d28":{"type":"object"}"#.to_owned()])
            .collect();
        let bomb = format!(
            r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##,
            defs.join(",")
        );
        assert!(bomb.len() < 3_000);
        assert_eq!(verdict(&bomb), Err(OverBounds::Expansion));
    }

    #[test]
    fn deep_nesting_is_refused_plain_and_through_references() {
        let plain = format!("{}{{}}{}", r#"{"items":"#.repeat(80), "}".repeat(80));
        assert_eq!(verdict(&plain), Err(OverBounds::Depth));
        let defs: Vec<String> = (0..500)
            .map(|n| format!(r##""d{n}":{{"items":{{"$ref":"#/$defs/d{}"}}}}"##, n + 1))
            .chain([r#""d500":{}"#.to_owned()])
            .collect();
        let chain = format!(
            r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##,
            defs.join(",")
        );
        assert_eq!(verdict(&chain), Err(OverBounds::Depth));
        let parser = format!("{}1{}", r#"{"not":"#.repeat(5_000), "}".repeat(5_000));
        assert!(matches!(verdict(&parser), Err(OverBounds::Unreadable(_))));
    }

    #[test]
    fn remote_and_dangling_references_are_refused_and_nothing_is_fetched() {
        for reference in [
            "http://127.0.0.1:9/schema.json",
            "file:///etc/passwd",
            "other.json",
            "#/$defs/gone",
        ] {
            let schema = format!(r#"{{"properties":{{"a":{{"$ref":"{reference}"}}}}}}"#);
            assert_eq!(
                verdict(&schema),
                Err(OverBounds::Reference(reference.to_owned()))
            );
        }
    }

    #[test]
    fn recursion_into_the_value_is_fine_and_recursion_in_place_is_not() {
        let tree = r##"{"$ref":"#/$defs/t","$defs":{"t":{"properties":{"l":{"$ref":"#/$defs/t"},"r":{"$ref":"#/$defs/t"}}}}}"##;
        assert_eq!(verdict(tree), Ok(()));
        assert_eq!(verdict(r##"{"properties":{"self":{"$ref":"#"}}}"##), Ok(()));
        let endless = r##"{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"$ref":"#/$defs/a"}}}"##;
        assert!(matches!(verdict(endless), Err(OverBounds::Endless(_))));
        let unused = r##"{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}}}"##;
        assert!(matches!(verdict(unused), Err(OverBounds::Endless(_))));
    }

    #[test]
    fn sizes_and_regular_expressions_are_bounded() {
        let big = format!(r#"{{"description":"{}"}}"#, "x".repeat(MAX_SCHEMA_BYTES));
        assert!(matches!(verdict(&big), Err(OverBounds::Bytes(_))));
        let long = format!(r#"{{"pattern":"{}"}}"#, "a".repeat(MAX_REGEX_BYTES + 1));
        assert_eq!(verdict(&long), Err(OverBounds::Regex));
        assert_eq!(verdict(r#"{"pattern":"^[a-z]+$"}"#), Ok(()));
        assert!(matches!(verdict("3"), Err(OverBounds::Unreadable(_))));
        assert!(matches!(
            verdict(r#"{"a":1,"a":2}"#),
            Err(OverBounds::Unreadable(_))
        ));
    }
}
