//! Finding one's way in a JSON Schema: local references and merged `allOf`. Never fetches, never validates.

use std::borrow::Cow;

use crate::json::Json;

/// A schema document and what its references point at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document<'a> {
    root: &'a Json,
}

impl<'a> Document<'a> {
    pub(crate) fn new(root: &'a Json) -> Self {
        Self { root }
    }

    /// What a `$ref` points at inside this document; `None` when it leaves it or points nowhere.
    pub(crate) fn resolve(self, reference: &str) -> Option<&'a Json> {
        let own = self.root.text("$id").unwrap_or_default();
        let own = own.strip_suffix('#').unwrap_or(own);
        let local = match reference.strip_prefix('#') {
            Some(local) => local,
            None if !own.is_empty() => {
                let rest = reference.strip_prefix(own)?;
                if rest.is_empty() {
                    rest
                } else {
                    rest.strip_prefix('#')?
                }
            }
            None => return None,
        };
        if local.is_empty() {
            return Some(self.root);
        }
        match local.strip_prefix('/') {
            Some(pointer) => self.at(pointer),
            None => self.anchored(local),
        }
    }

    fn at(self, pointer: &str) -> Option<&'a Json> {
        pointer.split('/').try_fold(self.root, |node, step| {
            let step = percent_decoded(step);
            let step = step.replace("~1", "/").replace("~0", "~");
            match node {
                Json::Array(items) => items.get(step.parse::<usize>().ok()?),
                node => node.get(&step),
            }
        })
    }

    /// Anchors are looked for among the definitions only, where generators put them.
    fn anchored(self, anchor: &str) -> Option<&'a Json> {
        let named = |node: &&Json| {
            ["$anchor", "$dynamicAnchor"]
                .iter()
                .any(|key| node.text(key) == Some(anchor))
        };
        ["$defs", "definitions"]
            .iter()
            .filter_map(|key| self.root.get(key))
            .flat_map(|defs| defs.members().iter().map(|(_, node)| node))
            .chain(std::iter::once(self.root))
            .find(named)
    }
}

fn percent_decoded(step: &str) -> Cow<'_, str> {
    if !step.contains('%') {
        return Cow::Borrowed(step);
    }
    let mut bytes = Vec::with_capacity(step.len());
    let mut rest = step.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// The reference a node stands for, if any.
pub(crate) fn reference(node: &Json) -> Option<&str> {
    ["$ref", "$dynamicRef", "$recursiveRef"]
        .iter()
        .find_map(|key| node.text(key))
}

/// The last step of a reference, as a name.
pub(crate) fn reference_name(reference: &str) -> String {
    let last = reference.rsplit(['/', '#']).next().unwrap_or_default();
    let name: String = last
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .take(40)
        .collect();
    if name.is_empty() {
        "self".to_owned()
    } else {
        name
    }
}

/// Keywords that say nothing about validity.
const ANNOTATIONS: [&str; 12] = [
    "title",
    "description",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$id",
    "$schema",
    "$defs",
    "definitions",
];

/// Whether a keyword says nothing about validity.
pub(crate) fn is_annotation(key: &str) -> bool {
    ANNOTATIONS.contains(&key)
}

/// Both schemas at once: properties and `required` are joined, of two differing keywords the first stays.
/// The flag says that something could not be joined.
pub(crate) fn merge(first: &Json, second: &Json) -> (Json, bool) {
    let mut members = first.members().to_vec();
    let mut lost = false;
    for (key, value) in second.members() {
        let Some(slot) = members.iter_mut().find(|(name, _)| name == key) else {
            members.push((key.clone(), value.clone()));
            continue;
        };
        match (key.as_str(), &mut slot.1) {
            ("properties", Json::Object(mine)) => {
                for (name, schema) in value.members() {
                    match mine.iter_mut().find(|(known, _)| known == name) {
                        Some((_, known)) => {
                            let (both, clash) = merge(known, schema);
                            *known = both;
                            lost |= clash;
                        }
                        None => mine.push((name.clone(), schema.clone())),
                    }
                }
            }
            ("required", Json::Array(mine)) => {
                for name in value.items() {
                    if !mine.contains(name) {
                        mine.push(name.clone());
                    }
                }
            }
            (key, mine) => lost |= *mine != *value && !is_annotation(key),
        }
    }
    (Json::Object(members), lost)
}

/// The node without one member.
pub(crate) fn without(node: &Json, key: &str) -> Json {
    let others = node.members().iter().filter(|(name, _)| name != key);
    Json::Object(others.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_references_are_found_and_others_are_not() {
        let root = Json::parse(
            r#"{"$id":"https://x.example/s","$defs":{"a/b":{"const":1},"n":{"$anchor":"here","const":2}},"properties":{"p":{"const":3}}}"#,
        )
        .unwrap();
        let document = Document::new(&root);
        let found = |reference: &str| document.resolve(reference).map(Json::compact);
        assert_eq!(found("#/$defs/a~1b").as_deref(), Some(r#"{"const":1}"#));
        assert_eq!(found("#/%24defs/a~1b").as_deref(), Some(r#"{"const":1}"#));
        assert!(found("#here").unwrap().contains("here"));
        assert_eq!(
            found("https://x.example/s#/properties/p").as_deref(),
            Some(r#"{"const":3}"#)
        );
        assert_eq!(document.resolve("#"), Some(&root));
        for absent in [
            "http://127.0.0.1:1/x.json",
            "other.json#/a",
            "#/nowhere",
            "#gone",
            "x",
        ] {
            assert_eq!(document.resolve(absent), None, "{absent}");
        }
    }
}
