//! What stands at the head of a result: the members that say what kind of result it is.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The names looked for, as they stand in the JSON.
const NAMES: [&[u8]; 6] = [
    b"\"resultType\"",
    b"\"inputRequests\"",
    b"\"requestState\"",
    b"\"ttlMs\"",
    b"\"cacheScope\"",
    b"\"isError\"",
];

/// From this size on a search for the names alone is cheaper than reading the whole result.
const SEARCH_FROM_BYTES: usize = 1024;

/// The few members of a raw result that decide what is done with it, as slices of it. Of two members of
/// one name the last counts, as most readers have it. A result that is no object has none of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResultHead<'a> {
    /// `complete`, `input_required`, `task`, …; absent on legacy.
    pub result_type: Option<&'a RawValue>,
    /// What the server asks of the client, by the server's own keys.
    pub input_requests: Option<&'a RawValue>,
    /// To be given back untouched with the answers.
    pub request_state: Option<&'a RawValue>,
    /// How long the result may be kept.
    pub ttl_ms: Option<&'a RawValue>,
    /// Who may share it.
    pub cache_scope: Option<&'a RawValue>,
    /// Whether the tool says that it failed.
    pub is_error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Name {
    ResultType,
    InputRequests,
    RequestState,
    TtlMs,
    CacheScope,
    IsError,
    #[serde(other)]
    Other,
}

impl<'a> ResultHead<'a> {
    /// Looks at a result. Nothing is copied, and what is below other members is skipped.
    #[must_use]
    pub fn of(result: &'a RawValue) -> Self {
        let text = result.get();
        let found = |name: &&[u8]| memchr::memmem::find(text.as_bytes(), name).is_some();
        // A name spelled with escapes is not found here; no serializer writes one.
        if text.len() >= SEARCH_FROM_BYTES && !NAMES.iter().any(found) {
            return Self::default();
        }
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Whether `resultType` is this one. An absent one is `complete`, as the specification says.
    #[must_use]
    pub fn is_type(&self, name: &str) -> bool {
        match self.result_type {
            None => name == "complete",
            Some(raw) => raw
                .get()
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .is_some_and(|found| found == name),
        }
    }

    /// Whether the server wants input before it completes the request.
    #[must_use]
    pub fn is_input_required(&self) -> bool {
        self.is_type("input_required")
    }

    /// Whether the tool says that it failed.
    #[must_use]
    pub fn is_tool_error(&self) -> bool {
        self.is_error.is_some_and(|raw| raw.get() == "true")
    }

    /// `ttlMs`, where it is a whole number.
    #[must_use]
    pub fn ttl_ms(&self) -> Option<u64> {
        self.ttl_ms.and_then(|raw| raw.get().parse().ok())
    }
}

impl<'de> Deserialize<'de> for ResultHead<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = ResultHead<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut head = ResultHead::default();
                while let Some(name) = map.next_key()? {
                    let slot = match name {
                        Name::ResultType => &mut head.result_type,
                        Name::InputRequests => &mut head.input_requests,
                        Name::RequestState => &mut head.request_state,
                        Name::TtlMs => &mut head.ttl_ms,
                        Name::CacheScope => &mut head.cache_scope,
                        Name::IsError => &mut head.is_error,
                        Name::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *slot = Some(map.next_value()?);
                }
                Ok(head)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn the_members_are_found_as_they_stand_and_nothing_below_others_is() {
        let result = raw(
            r#"{"content":[{"isError":true,"resultType":"x"}],"resultType":"input_required",
            "inputRequests":{"a":{"method":"elicitation/create", "params":{"x":1.0}}},"requestState":"o\u0070aque",
            "ttlMs":5,"cacheScope":"private","unknown":1}"#,
        );
        let head = ResultHead::of(&result);
        assert!(head.is_input_required() && !head.is_tool_error());
        assert_eq!(
            head.input_requests.unwrap().get(),
            r#"{"a":{"method":"elicitation/create", "params":{"x":1.0}}}"#
        );
        assert_eq!(head.request_state.unwrap().get(), r#""o\u0070aque""#);
        assert_eq!(
            (head.ttl_ms(), head.cache_scope.unwrap().get()),
            (Some(5), "\"private\"")
        );
        assert!(head.is_error.is_none());
    }

    #[test]
    fn a_result_of_an_old_server_is_complete() {
        let big = format!(
            r#"{{"content":[{{"type":"text","text":"{}"}}]}}"#,
            "x".repeat(4096)
        );
        for text in [r#"{"content":[]}"#, "{}", "[1]", "7", "null", &big] {
            let result = raw(text);
            let head = ResultHead::of(&result);
            assert!(head.is_type("complete") && !head.is_input_required());
            assert!(!head.is_tool_error(), "{text}");
        }
    }

    #[test]
    fn the_last_of_a_name_counts_and_a_large_result_is_read_to_its_end() {
        let pad = "x".repeat(4096);
        let result = raw(&format!(
            r#"{{"isError":false,"content":"{pad}","isError":true,"resultType":7}}"#
        ));
        let head = ResultHead::of(&result);
        assert!(head.is_tool_error());
        assert!(!head.is_type("complete") && !head.is_type("7"));
    }
}
