//! The hash of a definition and of a catalogue. Owns which members count; knows nothing of pins.

use sha2::{Digest, Sha256};

use crate::entry::{Hash, Kind, Ref};
use crate::json::Json;

/// What a tool's hash covers; `description` too, for a changed description is how a rug is pulled.
const TOOL_MEMBERS: [&str; 6] = [
    "name",
    "title",
    "description",
    "inputSchema",
    "outputSchema",
    "annotations",
];

/// What the hash of anything else covers. Their `annotations` and `size` are left out: they hold
/// modification times and lengths, which change with the content and not with the offer.
const OTHER_MEMBERS: [&str; 7] = [
    "name",
    "title",
    "description",
    "uri",
    "uriTemplate",
    "mimeType",
    "arguments",
];

/// SHA-256 over the RFC 8785 canonical JSON of the members that count.
pub(crate) fn of_definition(kind: Kind, definition: &Json) -> Hash {
    let counts: &[&str] = match kind {
        Kind::Tool => &TOOL_MEMBERS,
        Kind::Resource | Kind::Template | Kind::Prompt => &OTHER_MEMBERS,
    };
    let members = definition
        .members()
        .iter()
        .filter(|(key, _)| counts.contains(&key.as_str()));
    let kept = Json::Object(members.cloned().collect());
    match serde_json_canonicalizer::to_vec(&kept) {
        Ok(canonical) => Hash(Sha256::digest(&canonical).into()),
        // Cannot happen for parsed JSON, which holds no NaN; a hash of the plain text still tells changes.
        Err(_) => of_unreadable(&kept.compact()),
    }
}

/// The hash of a definition that cannot be read strictly: over its bytes as they came, in a domain of its own,
/// so that a pin still notices every change.
pub(crate) fn of_unreadable(raw: &str) -> Hash {
    let mut digest = Sha256::new();
    digest.update(b"unreadable definition\0");
    digest.update(raw.as_bytes());
    Hash(digest.finalize().into())
}

/// Over a (kind, ref, hash) list that is already sorted.
pub(crate) fn of_catalogue<'a>(entries: impl Iterator<Item = (Kind, &'a Ref, &'a Hash)>) -> Hash {
    let mut digest = Sha256::new();
    for (kind, reference, hash) in entries {
        digest.update([kind as u8]);
        digest.update(reference.server.as_str().as_bytes());
        digest.update(b".");
        digest.update(reference.name.as_bytes());
        // No name holds a control character, so nothing can imitate the end of one.
        digest.update(b"\n");
        digest.update(hash.0);
    }
    Hash(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> String {
        of_definition(Kind::Tool, &Json::parse(text).unwrap()).hex()
    }

    /// Computed with an independent implementation (Python's `json.dumps(sort_keys=True, separators)` and `hashlib`
    /// on a definition where it agrees with RFC 8785). Fails when a `serde_json` feature such as `preserve_order`
    /// or `arbitrary_precision` changes what we hash.
    #[test]
    fn a_known_definition_has_its_known_hash() {
        let text = r#"{"name":"get-sum","description":"Sums: é €","inputSchema":{"type":"object","required":["b","a"],"properties":{"b":{"type":"number","default":10},"a":{"type":"number","minimum":-5}}},"annotations":{"readOnlyHint":true}}"#;
        assert_eq!(hash(text), KNOWN);
    }

    const KNOWN: &str = "2d5416458b73539a3e23ce286ec97c757368636d338762528978cbf16f6de284";

    #[test]
    fn numbers_are_canonical_doubles() {
        let of = |number: &str| {
            hash(&format!(
                r#"{{"name":"n","inputSchema":{{"maximum":{number}}}}}"#
            ))
        };
        assert_eq!(of("1.0"), of("1"));
        assert_eq!(of("1e2"), of("100"));
        assert_eq!(of("9007199254740993"), of("9007199254740992"));
        assert_eq!(of("-0"), of("0"));
        assert_ne!(of("0.1"), of("0.2"));
    }

    #[test]
    fn order_white_space_and_members_that_do_not_count_change_nothing() {
        let plain =
            hash(r#"{"name":"a","inputSchema":{"type":"object","properties":{"x":{},"y":{}}}}"#);
        let other = hash(
            "{ \"_meta\": {\"v\": 1}, \"inputSchema\": {\"properties\": {\"y\":{}, \"x\":{}},\n \"type\":\"object\"}, \"name\":\"\\u0061\" }",
        );
        assert_eq!(plain, other);
    }

    #[test]
    fn every_member_that_counts_changes_the_hash() {
        let base = hash(r#"{"name":"a"}"#);
        for member in [
            "title",
            "description",
            "inputSchema",
            "outputSchema",
            "annotations",
        ] {
            assert_ne!(
                base,
                hash(&format!(r#"{{"name":"a","{member}":{{}}}}"#)),
                "{member}"
            );
        }
        assert_ne!(base, hash(r#"{"name":"b"}"#));
    }
}
