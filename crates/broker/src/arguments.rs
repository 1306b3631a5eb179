//! A call's arguments: read once, held against the tool's schema, digested once. Never logged.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use catalog::effort::Effort;
use catalog::{Entry, Hash};
use foldhash::fast::RandomState;
use jsonschema::{PatternOptions, Validator};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::checkers::Checkers;
use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};
use crate::principal::Principal;

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
/// So many visits to subschemas take a millisecond; more are made off the async threads.
const INLINE_STEPS: u64 = 20_000;
/// More visits than this are not begun: about a second of a thread, and nobody could stop it.
const MAX_STEPS: u64 = 5_000_000;
/// After more visits than this it is not told what is wrong: every complaint there is would be made and held first,
/// some hundred bytes for each visit.
const MAX_EXPLAINED_STEPS: u64 = 200_000;
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
pub(crate) struct Validators {
    compiled: moka::sync::Cache<Hash, Arc<Compiled>, RandomState>,
    checkers: Checkers,
}

#[derive(Debug)]
enum Compiled {
    Ready(Validator, Effort),
    Unsupported(String),
}

#[derive(Deserialize)]
struct SchemaOf<'a> {
    #[serde(borrow, rename = "inputSchema")]
    input_schema: Option<&'a RawValue>,
}

impl Validators {
    pub(crate) fn new() -> Self {
        Self {
            compiled: moka::sync::Cache::builder()
                .max_capacity(COMPILED_KEPT)
                .build_with_hasher(RandomState::default()),
            checkers: Checkers::new(),
        }
    }

    /// Holds arguments against a tool's schema.
    ///
    /// # Errors
    /// `invalid_arguments` with pointers and the signature, `unsupported_schema`, `overloaded`.
    pub(crate) async fn check(
        &self,
        who: &Principal,
        (tool, arguments): (&Arc<Entry>, Arguments),
    ) -> Result<Arguments, BrokerError> {
        if let Some(why) = &tool.unsupported_schema {
            return Err(unsupported(tool, why));
        }
        let compiled = match self.compiled.get(&tool.hash) {
            Some(compiled) => compiled,
            None => self.compile(who, tool).await?,
        };
        let steps = match &*compiled {
            Compiled::Ready(_, effort) => effort.steps(&arguments.value),
            Compiled::Unsupported(_) => 0,
        };
        if steps > MAX_STEPS {
            let why = "checking such deep or large arguments against it would take too long";
            return Err(unsupported(tool, why));
        }
        if arguments.raw.get().len() <= INLINE_BYTES && steps <= INLINE_STEPS {
            return complaints(tool, &compiled, &arguments).map_or(Ok(arguments), Err);
        }
        let place = self.checkers.place(who).await?;
        let tool = Arc::clone(tool);
        let checked = tokio::task::spawn_blocking(move || {
            // Held until the thread is free, also when the caller went away.
            let _place = place;
            complaints(&tool, &compiled, &arguments).map_or(Ok(arguments), Err)
        });
        checked
            .await
            .unwrap_or_else(|_| Err(Fault::new(ErrorCode::Internal, "checking arguments failed")))
    }

    async fn compile(
        &self,
        who: &Principal,
        tool: &Arc<Entry>,
    ) -> Result<Arc<Compiled>, BrokerError> {
        let place = self.checkers.place(who).await?;
        if let Some(compiled) = self.compiled.get(&tool.hash) {
            // Somebody else did it meanwhile.
            return Ok(compiled);
        }
        let source = Arc::clone(tool);
        let task = tokio::task::spawn_blocking(move || {
            let _place = place;
            compile(&source)
        });
        let compiled = match tokio::time::timeout(COMPILE_TIMEOUT, task).await {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Compiled::Unsupported("the schema cannot be compiled".to_owned()),
            Err(_) => Compiled::Unsupported("compiling the schema takes too long".to_owned()),
        };
        let compiled = Arc::new(compiled);
        self.compiled.insert(tool.hash, Arc::clone(&compiled));
        Ok(compiled)
    }
}

/// Compiles a tool's schema and holds arguments against it, at once and here.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn judged(tool: &Entry, arguments: &Arguments) -> Option<BrokerError> {
    complaints(tool, &compile(tool), arguments)
}

fn compile(tool: &Entry) -> Compiled {
    let raw = serde_json::from_str::<SchemaOf<'_>>(tool.raw.get())
        .ok()
        .and_then(|tool| tool.input_schema);
    let text = raw.map_or("{}", RawValue::get);
    let Ok(schema) = serde_json::from_str::<Value>(text) else {
        return Compiled::Unsupported("the schema is no JSON".to_owned());
    };
    let effort = Effort::of(raw.unwrap_or(RawValue::NULL));
    let options = jsonschema::options().with_pattern_options(
        PatternOptions::regex()
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES),
    );
    match options.build(&schema) {
        Ok(validator) => Compiled::Ready(validator, effort),
        Err(error) => Compiled::Unsupported(clip(&error.to_string())),
    }
}

fn complaints(tool: &Entry, compiled: &Compiled, arguments: &Arguments) -> Option<BrokerError> {
    let (validator, effort) = match compiled {
        Compiled::Ready(validator, effort) => (validator, effort),
        Compiled::Unsupported(why) => return Some(unsupported(tool, why)),
    };
    if validator.is_valid(&arguments.value) {
        return None;
    }
    let errors = if effort.steps(&arguments.value) > MAX_EXPLAINED_STEPS {
        vec![PointerDetail {
            pointer: "/arguments".to_owned(),
            detail: "do not fit the schema, and are too deep or large to say where".to_owned(),
        }]
    } else {
        explained(validator, &arguments.value)
    };
    let detail = errors.first().map_or_else(String::new, |first| {
        format!("{}: {}", first.pointer, first.detail)
    });
    let mut fault = Fault::new(ErrorCode::InvalidArguments, detail);
    fault.errors = errors;
    fault.hint = Some(format!("{}{}", tool.reference, tool.shape));
    Some(fault)
}

fn explained(validator: &Validator, arguments: &Value) -> Vec<PointerDetail> {
    let errors = validator.iter_errors(arguments).take(MAX_COMPLAINTS);
    let told = errors.map(|error| PointerDetail {
        pointer: format!("/arguments{}", error.instance_path()),
        detail: clip(&error.masked().to_string()),
    });
    told.collect()
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
    use catalog::{Listing, Snapshot};
    use transports::ServerName;

    use super::*;

    fn tool(schema: &str) -> Arc<Entry> {
        let tool = format!(r#"{{"name":"t","inputSchema":{schema}}}"#);
        let listing = Listing {
            tools: vec![Arc::from(raw(&tool))],
            ..Listing::default()
        };
        let snapshot = Snapshot::build(&ServerName::new("s").unwrap(), &listing);
        Arc::clone(snapshot.entries.first().unwrap())
    }

    async fn verdict(schema: &str, arguments: &str) -> Result<(), ErrorCode> {
        let arguments = Arguments::read(Some(raw(arguments))).unwrap();
        let (ann, tool) = (Principal::operator("w", "ann"), tool(schema));
        let checked = Validators::new().check(&ann, (&tool, arguments)).await;
        checked.map(|_| ()).map_err(|fault| fault.code)
    }

    /// 28 definitions, each twice the next: measured at 5 s of a core for `{}`, 40 at hours.
    fn doubling(definitions: usize) -> String {
        let defs = (0..definitions).map(|n| {
            format!(
                r##""d{n}":{{"allOf":[{{"$ref":"#/$defs/d{m}"}},{{"$ref":"#/$defs/d{m}"}}]}}"##,
                m = n + 1
            )
        });
        let defs: Vec<String> = defs.collect();
        format!(
            r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d{definitions}":{{"type":"object"}}}}}}"##,
            defs.join(",")
        )
    }

    #[tokio::test]
    async fn schemas_that_would_stop_a_core_are_refused_before_anything_is_checked() {
        let deep = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        let doubles_with_the_value = r##"{"anyOf":[{"properties":{"a":{"$ref":"#"}},"required":["a"]},{"properties":{"a":{"$ref":"#"}},"required":["a"]}]}"##;
        for (schema, arguments) in [
            (doubling(28), "{}".to_owned()),
            (doubling(40), "{}".to_owned()),
            (
                r#"{"properties":{"s":{"pattern":"^(a*)*\\1b$"}}}"#.to_owned(),
                r#"{"s":"aaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#.to_owned(),
            ),
            (
                r#"{"properties":{"s":{"pattern":"(a{1000}){1000}"}}}"#.to_owned(),
                r#"{"s":"a"}"#.to_owned(),
            ),
            (
                r#"{"$ref":"http://127.0.0.1:9/schema.json"}"#.to_owned(),
                "{}".to_owned(),
            ),
            (
                r#"{"properties":{"x":{"$ref":"file:///etc/passwd"}}}"#.to_owned(),
                "{}".to_owned(),
            ),
            (doubles_with_the_value.to_owned(), deep(60)),
        ] {
            let said = verdict(&schema, &arguments).await;
            assert_eq!(said, Err(ErrorCode::UnsupportedSchema), "{schema}");
        }
        // What is judged is the work, not the schema: a shallow value is little of it.
        assert_eq!(verdict(doubles_with_the_value, &deep(3)).await, Ok(()));
        let wrong = verdict(doubles_with_the_value, r#"{"a":{"b":1}}"#).await;
        assert_eq!(wrong, Err(ErrorCode::InvalidArguments));
    }

    /// Texts of some dozen KiB are enough: 60 KB against 200 of these took eight seconds.
    #[tokio::test]
    async fn a_text_that_slow_patterns_go_through_is_not_checked_on_the_spot() {
        let patterns = (0..200).map(|n| format!(r#"{{"pattern":"(a|b)*x.{{9}}y{n}"}}"#));
        let patterns = patterns.collect::<Vec<_>>().join(",");
        let schema = format!(r#"{{"properties":{{"s":{{"anyOf":[{patterns}]}}}}}}"#);
        let tool = tool(&schema);
        let of = |bytes: usize| {
            let text = format!(r#"{{"s":"{}"}}"#, "b".repeat(bytes));
            Arguments::read(Some(raw(&text))).unwrap()
        };
        let Compiled::Ready(_, effort) = compile(&tool) else {
            panic!("it compiles");
        };
        assert!(effort.steps(&of(60_000).value) > INLINE_STEPS);
        assert!(effort.steps(&of(500).value) < INLINE_STEPS);
        let ann = Principal::operator("w", "ann");
        let refused = Validators::new().check(&ann, (&tool, of(1_000_000))).await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::UnsupportedSchema);
    }

    #[tokio::test]
    async fn large_arguments_of_an_honest_schema_are_checked() {
        let schema = r#"{"properties":{"list":{"items":{"properties":{"n":{"type":"number"}}}}}}"#;
        let list = vec![r#"{"n":1}"#; 20_000].join(",");
        let good = format!(r#"{{"list":[{list}]}}"#);
        assert_eq!(verdict(schema, &good).await, Ok(()));
        let bad = format!(r#"{{"list":[{list},{{"n":"x"}}]}}"#);
        assert_eq!(
            verdict(schema, &bad).await,
            Err(ErrorCode::InvalidArguments)
        );
    }

    #[tokio::test]
    async fn what_would_take_a_complaint_for_every_visit_is_refused_with_one() {
        let doubling = r##"{"anyOf":[{"properties":{"a":{"$ref":"#"}},"required":["a"]},{"properties":{"a":{"$ref":"#"}},"required":["a"]}]}"##;
        let ann = Principal::operator("w", "ann");
        let validators = Validators::new();
        let fault = async |depth: usize| {
            let wrong = format!(
                r#"{}{{"b":1}}{}"#,
                r#"{"a":"#.repeat(depth),
                "}".repeat(depth)
            );
            let arguments = Arguments::read(Some(raw(&wrong))).unwrap();
            let checked = validators.check(&ann, (&tool(doubling), arguments)).await;
            checked.unwrap_err()
        };
        let shallow = fault(3).await;
        assert!(shallow.detail.contains("not valid under"), "{shallow:?}");
        let deep = fault(17).await;
        assert_eq!(deep.code, ErrorCode::InvalidArguments);
        assert_eq!(deep.errors.len(), 1, "{deep:?}");
        assert!(deep.detail.contains("too deep or large"), "{deep:?}");
    }

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
