//! JSON that two readers could read differently is no message: members that stand twice, bottomless nesting.
//!
//! Keeps values raw; decides nothing about their meaning.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Members of one object that is taken apart; `params` and `_meta` have a dozen.
const MAX_MEMBERS: usize = 256;
/// Up to here looking through the names seen is cheaper than hashing them.
const FEW: usize = 16;
/// What a failed [`check`] is told as.
pub(super) const WHY: &str =
    "a member stands twice, the nesting is too deep, or a number is out of range";

/// Members the protocol names: they need no copy of their name.
const KNOWN: [&str; 18] = [
    "_meta",
    "name",
    "arguments",
    "uri",
    "cursor",
    "ref",
    "argument",
    "context",
    "task",
    "taskId",
    "inputResponses",
    "requestState",
    "protocolVersion",
    "capabilities",
    "clientInfo",
    "level",
    "requestId",
    "notifications",
];

/// The members of an object, in order.
pub(super) type Members = Vec<(Cow<'static, str>, Box<RawValue>)>;

/// Takes an object apart; values stay raw.
///
/// # Errors
/// When it is no object, or a member stands twice.
pub(super) fn object(raw: &RawValue) -> Result<Members, serde_json::Error> {
    Object.deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
}

struct Object;

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Members;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members: Members = Vec::with_capacity(4);
        while let Some(Name(name)) = map.next_key()? {
            if members.iter().any(|(seen, _)| *seen == name) {
                return Err(A::Error::custom("a member stands twice"));
            }
            if members.len() == MAX_MEMBERS {
                return Err(A::Error::custom(format_args!(
                    "more than {MAX_MEMBERS} members"
                )));
            }
            let known = KNOWN.iter().find(|known| **known == name);
            let name = known.map_or_else(
                || Cow::Owned(name.into_owned()),
                |known| Cow::Borrowed(*known),
            );
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

/// A member's name, copied only when it holds escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a value reads the same to everybody.
pub(super) fn check(value: &RawValue) -> bool {
    let text = value.get();
    if !text.starts_with(['{', '[']) {
        return true;
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    // The reader's own recursion limit bounds the depth.
    Sound.deserialize(&mut reader).is_ok()
}

/// Walks a value and keeps nothing.
#[derive(Clone, Copy)]
struct Sound;

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::Few(Vec::new());
        while let Some(Name(name)) = map.next_key()? {
            if !seen.add(name) {
                return Err(A::Error::custom("a member stands twice"));
            }
            map.next_value_seed(Self)?;
        }
        Ok(())
    }
}

/// Names of one object.
enum Seen<'a> {
    Few(Vec<Cow<'a, str>>),
    Many(HashSet<Cow<'a, str>>),
}

impl<'a> Seen<'a> {
    /// False when it was there already.
    fn add(&mut self, name: Cow<'a, str>) -> bool {
        match self {
            Self::Few(names) if names.len() < FEW => {
                let fresh = !names.contains(&name);
                names.push(name);
                fresh
            }
            Self::Few(names) => {
                let mut many: HashSet<_> = names.drain(..).collect();
                let fresh = many.insert(name);
                *self = Self::Many(many);
                fresh
            }
            Self::Many(names) => names.insert(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(text: &str) -> bool {
        check(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn only_unambiguous_json_is_sound() {
        let many: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        let many = many.join(",");
        for good in [
            "1e400",
            "{}",
            r#"{"a":[{"a":1},{"a":2.5}],"b":null}"#,
            &format!("{{{many}}}"),
        ] {
            assert!(sound(good), "{good}");
        }
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"[{"x":{"a":1,"\u0061":2}}]"#,
            &format!("{{{many},\"k3\":1}}"),
            &format!("{}1{}", "[".repeat(200), "]".repeat(200)),
            "[1e400]",
        ] {
            assert!(!sound(bad), "{bad}");
        }
    }
}
