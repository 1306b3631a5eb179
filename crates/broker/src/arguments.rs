//! A call's arguments: read once, held against the tool's schema, digested once. Never logged.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Entry, Hash};
use jsonschema::{PatternOptions, Validator};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};

/// Complaints told about one call; the first few say it all.
const MAX_COMPLAINTS: usize = 16;
/// Longest complaint, in characters: jsonschema quotes the instance.
const MAX_COMPLAINT_CHARS: usize = 300;
/// Compiled schemas kept; some tens of KiB each at worst.
const COMPILED_KEPT: u64 = 4096;
/// How long compiling one schema may take before the tool counts as unsupported.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(5);
/// Arguments larger than this are checked off the async threads.
const INLINE_BYTES: usize = 64 * 1024;
/// Largest regex automaton a schema may ask for.
const REGEX_BYTES: usize = 1024 * 1024;
/// Longest preview kept in the ledger, in bytes.
pub(crate) const PREVIEW_BYTES: usize = 512;

/// Arguments as checked and sent.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// As the caller wrote them.
    pub raw: Box<RawValue>,
    /// As read; duplicate keys were refused, so `raw` and this say the same to every reader.
    pub value: Value,
    /// SHA-256 of the RFC 8785 form.
    pub digest: [u8; 32],
}

impl Arguments {
    /// Reads an object. `None` counts as `{}`.
    pub(crate) fn read(raw: Option<Box<RawValue>>) -> Result<Self, BrokerError> {
        let raw = match raw {
            Some(raw) => raw,
            None => RawValue::from_string("{}".to_owned()).map_err(|_| malformed("no object"))?,
        };
        let mut reader = serde_json::Deserializer::from_str(raw.get());
        let value = Unique
            .deserialize(&mut reader)
            .map_err(|error| malformed(&error.to_string()))?;
        if !value.is_object() {
            return Err(malformed("expected an object"));
        }
        let canonical = serde_json_canonicalizer::to_vec(&value)
            .map_err(|_| malformed("holds a number JSON cannot carry"))?;
        Ok(Self {
            raw,
            value,
            digest: Sha256::digest(&canonical).into(),
        })
    }

    /// The names and types of the members, never their values: what the ledger may show.
    pub(crate) fn preview(&self) -> String {
        let Value::Object(members) = &self.value else {
            return String::new();
        };
        let mut text = String::with_capacity(64);
        for (name, value) in members {
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            if text.len() + name.len() + kind.len() + 4 > PREVIEW_BYTES {
                text.push('…');
                break;
            }
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(name);
            text.push_str(": ");
            text.push_str(kind);
        }
        text
    }
}

fn malformed(detail: &str) -> BrokerError {
    let mut fault = Fault::new(ErrorCode::InvalidArguments, format!("arguments: {detail}"));
    fault.errors.push(PointerDetail {
        pointer: "/arguments".to_owned(),
        detail: detail.to_owned(),
    });
    fault
}

/// Compiled schemas by definition hash.
#[derive(Debug, Clone)]
pub(crate) struct Validators(moka::sync::Cache<Hash, Arc<Compiled>>);

#[derive(Debug)]
enum Compiled {
    Ready(Validator),
    Unsupported(String),
}

#[derive(Deserialize)]
struct SchemaOf<'a> {
    #[serde(borrow, rename = "inputSchema")]
    input_schema: Option<&'a RawValue>,
}

impl Validators {
    pub(crate) fn new() -> Self {
        Self(moka::sync::Cache::new(COMPILED_KEPT))
    }

    /// Holds arguments against a tool's schema.
    ///
    /// # Errors
    /// `invalid_arguments` with pointers and the signature, `unsupported_schema`.
    pub(crate) async fn check(
        &self,
        tool: &Arc<Entry>,
        arguments: Arguments,
    ) -> Result<Arguments, BrokerError> {
        if let Some(why) = &tool.unsupported_schema {
            return Err(unsupported(tool, why));
        }
        let compiled = match self.0.get(&tool.hash) {
            Some(compiled) => compiled,
            None => self.compile(tool).await,
        };
        if arguments.raw.get().len() <= INLINE_BYTES {
            return complaints(tool, &compiled, &arguments).map_or(Ok(arguments), Err);
        }
        let tool = Arc::clone(tool);
        let checked = tokio::task::spawn_blocking(move || {
            complaints(&tool, &compiled, &arguments).map_or(Ok(arguments), Err)
        });
        checked
            .await
            .unwrap_or_else(|_| Err(Fault::new(ErrorCode::Internal, "checking arguments failed")))
    }

    async fn compile(&self, tool: &Arc<Entry>) -> Arc<Compiled> {
        let source = Arc::clone(tool);
        let task = tokio::task::spawn_blocking(move || compile(&source));
        let compiled = match tokio::time::timeout(COMPILE_TIMEOUT, task).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Compiled::Unsupported("the schema cannot be compiled".to_owned()),
            Err(_) => Compiled::Unsupported("compiling the schema takes too long".to_owned()),
        };
        let compiled = Arc::new(compiled);
        self.0.insert(tool.hash, Arc::clone(&compiled));
        compiled
    }
}

fn compile(tool: &Entry) -> Compiled {
    let schema = serde_json::from_str::<SchemaOf<'_>>(tool.raw.get())
        .ok()
        .and_then(|tool| tool.input_schema.map(RawValue::get))
        .unwrap_or("{}");
    let Ok(schema) = serde_json::from_str::<Value>(schema) else {
        return Compiled::Unsupported("the schema is no JSON".to_owned());
    };
    let options = jsonschema::options().with_pattern_options(
        PatternOptions::regex()
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES),
    );
    match options.build(&schema) {
        Ok(validator) => Compiled::Ready(validator),
        Err(error) => Compiled::Unsupported(clip(&error.to_string())),
    }
}

fn complaints(tool: &Entry, compiled: &Compiled, arguments: &Arguments) -> Option<BrokerError> {
    let validator = match compiled {
        Compiled::Ready(validator) => validator,
        Compiled::Unsupported(why) => return Some(unsupported(tool, why)),
    };
    if validator.is_valid(&arguments.value) {
        return None;
    }
    let errors: Vec<PointerDetail> = validator
        .iter_errors(&arguments.value)
        .take(MAX_COMPLAINTS)
        .map(|error| PointerDetail {
            pointer: format!("/arguments{}", error.instance_path()),
            detail: clip(&error.masked().to_string()),
        })
        .collect();
    let detail = errors.first().map_or_else(String::new, |first| {
        format!("{}: {}", first.pointer, first.detail)
    });
    let mut fault = Fault::new(ErrorCode::InvalidArguments, detail);
    fault.errors = errors;
    fault.hint = Some(format!("{}{}", tool.reference, tool.shape));
    Some(fault)
}

fn unsupported(tool: &Entry, why: &str) -> BrokerError {
    let detail = format!("the schema of {} cannot be used: {why}", tool.reference);
    Fault::new(ErrorCode::UnsupportedSchema, detail)
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_COMPLAINT_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Reads a JSON value and refuses duplicate keys, by which two readers could see two different calls.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(member) = members.next_element_seed(Unique)? {
            list.push(member);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Unique)?;
            if map.contains_key(&name) {
                return Err(A::Error::custom(format_args!(
                    "the member {name:?} stands twice"
                )));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn equal_arguments_have_one_digest_whatever_their_order() {
        let one = Arguments::read(Some(raw(r#"{"a":1,"b":[true,null]}"#))).unwrap();
        let two = Arguments::read(Some(raw(r#"{ "b": [true, null], "a": 1.0 }"#))).unwrap();
        let other = Arguments::read(Some(raw(r#"{"a":2}"#))).unwrap();
        assert_eq!(one.digest, two.digest);
        assert_ne!(one.digest, other.digest);
        assert_eq!(one.preview(), "a: number, b: array");
        assert_eq!(Arguments::read(None).unwrap().raw.get(), "{}");
    }

    #[test]
    fn arguments_that_two_readers_could_read_differently_are_refused() {
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":[{"b":1,"b":1}]}"#,
            "[]",
            "null",
            "7",
        ] {
            let fault = Arguments::read(Some(raw(bad))).unwrap_err();
            assert_eq!(fault.code, ErrorCode::InvalidArguments, "{bad}");
            assert_eq!(fault.errors[0].pointer, "/arguments");
        }
    }
}
