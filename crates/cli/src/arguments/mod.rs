//! Turns `k=v`, `k:=JSON`, `k=@file` into a JSON object, by the tool's schema where that matters.
//! Numbers keep the digits the user typed. Pure but for reading the files named.

mod coercion;

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;
use serde_json::Value;
use serde_json::value::RawValue;

use self::coercion::accepts;
use crate::failure::Failure;

/// One argument as typed.
#[derive(Debug, Clone)]
pub(crate) struct Typed {
    name: String,
    value: TypedValue,
}

#[derive(Debug, Clone)]
enum TypedValue {
    /// `k=v`: a string, or what the schema makes of it.
    Text(String),
    /// `k=@file`: a string whatever it looks like.
    Content(String),
    /// `k:=JSON`.
    Json(Box<RawValue>),
}

impl Typed {
    /// The name before the `=`.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The value of `k:=JSON`.
    #[must_use]
    pub(crate) fn json(&self) -> Option<&RawValue> {
        match &self.value {
            TypedValue::Json(json) => Some(json),
            TypedValue::Text(_) | TypedValue::Content(_) => None,
        }
    }
}

/// Splits each argument at its first `=` or `:=`.
///
/// # Errors
/// A usage failure that names the argument and the forms there are.
pub(crate) fn parse(arguments: &[String]) -> Result<Vec<Typed>, Failure> {
    let mut typed: Vec<Typed> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let one = parse_one(argument)?;
        if typed.iter().any(|other| other.name == one.name) {
            return Err(Failure::usage(format!("`{}` is given twice", one.name)));
        }
        typed.push(one);
    }
    Ok(typed)
}

/// Whether the schema could make something else than a string of any of them.
#[must_use]
pub(crate) fn need_schema(typed: &[Typed]) -> bool {
    typed.iter().any(|one| match &one.value {
        TypedValue::Text(text) => not_a_string(text).is_some(),
        TypedValue::Content(_) | TypedValue::Json(_) => false,
    })
}

/// The object to send. Without a schema, what looks like JSON is JSON.
///
/// # Errors
/// When a value cannot be written as JSON, which no input does.
pub(crate) fn object(typed: &[Typed], schema: Option<&Value>) -> Result<Box<RawValue>, Failure> {
    let members: IndexMap<&str, Box<RawValue>> = typed
        .iter()
        .map(|one| {
            let value = match &one.value {
                TypedValue::Text(text) => coerce(text, property(schema, &one.name), schema)?,
                TypedValue::Content(text) => string(text)?,
                TypedValue::Json(json) => json.clone(),
            };
            Ok((one.name.as_str(), value))
        })
        .collect::<Result<_, Failure>>()?;
    serde_json::value::to_raw_value(&members).map_err(|error| Failure::usage(error.to_string()))
}

/// Strings only, as prompts take them.
///
/// # Errors
/// As [`object`], and for `:=` with anything but a string.
pub(crate) fn strings(typed: &[Typed]) -> Result<BTreeMap<String, String>, Failure> {
    typed
        .iter()
        .map(|one| {
            let text = match &one.value {
                TypedValue::Text(text) | TypedValue::Content(text) => text.clone(),
                TypedValue::Json(json) => serde_json::from_str(json.get()).map_err(|_| {
                    Failure::usage(format!("`{}`: a prompt's arguments are strings", one.name))
                })?,
            };
            Ok((one.name.clone(), text))
        })
        .collect()
}

/// Checks that the bytes are one JSON object and keeps them as they are.
///
/// # Errors
/// A usage failure that says where the JSON is wrong.
pub(crate) fn whole_object(bytes: &[u8], source: &str) -> Result<Box<RawValue>, Failure> {
    let raw: Box<RawValue> = serde_json::from_slice(bytes)
        .map_err(|error| Failure::usage(format!("{source} is no JSON: {error}")))?;
    if raw.get().trim_start().starts_with('{') {
        Ok(raw)
    } else {
        Err(Failure::usage(format!(
            "{source} must be a JSON object of the tool's arguments"
        )))
    }
}

fn parse_one(argument: &str) -> Result<Typed, Failure> {
    let Some((name, text)) = argument.split_once('=') else {
        return Err(Failure::usage(format!(
            "`{argument}` is no argument; write k=v, k:=JSON or k=@FILE, or one JSON object"
        )));
    };
    let (name, is_json) = match name.strip_suffix(':') {
        Some(name) => (name, true),
        None => (name, false),
    };
    if name.is_empty() {
        return Err(Failure::usage(format!("`{argument}` names no argument")));
    }
    let value = match (is_json, text.strip_prefix('@')) {
        (false, Some(escaped)) if escaped.starts_with('@') => {
            TypedValue::Content(escaped.to_owned())
        }
        (false, Some(file)) => TypedValue::Content(read_file(name, file)?),
        (false, None) => TypedValue::Text(text.to_owned()),
        (true, Some(file)) => TypedValue::Json(read_json(name, &read_file(name, file)?)?),
        (true, None) => TypedValue::Json(read_json(name, text)?),
    };
    Ok(Typed {
        name: name.to_owned(),
        value,
    })
}

fn read_json(name: &str, text: &str) -> Result<Box<RawValue>, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("`{name}` is no JSON: {error}")))
}

fn read_file(name: &str, file: &str) -> Result<String, Failure> {
    std::fs::read_to_string(Path::new(file)).map_err(|error| {
        Failure::usage(format!("`{name}`: file {file}: {error}"))
            .hint(format!("for a text that begins with @ write {name}=@@…"))
    })
}

/// The JSON a text is, when it is JSON but no string.
fn not_a_string(text: &str) -> Option<Value> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || b"-{[tfn".contains(&first)) {
        return None;
    }
    serde_json::from_str::<Value>(text)
        .ok()
        .filter(|value| !value.is_string())
}

fn string(text: &str) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(text).map_err(|error| Failure::usage(error.to_string()))
}

fn coerce(
    text: &str,
    property: Option<&Value>,
    root: Option<&Value>,
) -> Result<Box<RawValue>, Failure> {
    let Some(value) = not_a_string(text) else {
        return string(text);
    };
    if property.is_none_or(|schema| accepts(schema, root, &value, text)) {
        return read_json("value", text);
    }
    string(text)
}

fn property<'a>(schema: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    schema?.get("properties")?.get(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(arguments: &[&str], schema: Option<&Value>) -> String {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let typed = parse(&arguments).unwrap();
        object(&typed, schema).unwrap().get().to_owned()
    }

    #[test]
    fn the_schema_decides_what_a_text_is() {
        let schema = json!({"properties": {
            "zip": {"type": "string"},
            "a": {"type": "number"},
            "n": {"type": ["integer", "null"]},
            "on": {"type": "boolean"},
            "tags": {"type": "array"},
            "size": {"enum": ["1", 2]},
            "either": {"anyOf": [{"type": "string"}, {"type": "number"}]},
            "far": {"$ref": "#/$defs/count"},
            "any": {},
        }, "$defs": {"count": {"type": "integer"}}});
        let sent = |arguments: &[&str]| sent(arguments, Some(&schema));
        assert_eq!(sent(&["zip=01234"]), r#"{"zip":"01234"}"#);
        assert_eq!(sent(&["zip=12345"]), r#"{"zip":"12345"}"#);
        assert_eq!(sent(&["a=1", "on=true"]), r#"{"a":1,"on":true}"#);
        assert_eq!(sent(&["n=null"]), r#"{"n":null}"#);
        assert_eq!(sent(&["a=01234"]), r#"{"a":"01234"}"#);
        assert_eq!(sent(&["tags=[1]"]), r#"{"tags":[1]}"#);
        assert_eq!(sent(&["size=1"]), r#"{"size":"1"}"#);
        assert_eq!(sent(&["size=2"]), r#"{"size":2}"#);
        assert_eq!(sent(&["either=5"]), r#"{"either":"5"}"#);
        assert_eq!(sent(&["far=5"]), r#"{"far":5}"#);
        assert_eq!(
            sent(&["any=5", "unknown=true"]),
            r#"{"any":5,"unknown":true}"#
        );
    }

    #[test]
    fn long_numbers_keep_their_digits() {
        let schema = json!({"properties": {"id": {"type": "integer"}}});
        let digits = "123456789012345678901234567890";
        let argument = format!("id={digits}");
        assert_eq!(
            sent(&[&argument], Some(&schema)),
            format!(r#"{{"id":{digits}}}"#)
        );
        assert_eq!(sent(&["x:=1.50"], None), r#"{"x":1.50}"#);
    }

    #[test]
    fn json_files_and_escapes() {
        assert_eq!(sent(&["a:={\"b\":[1]}"], None), r#"{"a":{"b":[1]}}"#);
        assert_eq!(
            sent(&["who=@@octocat", "eq=a=b"], None),
            r#"{"who":"@octocat","eq":"a=b"}"#
        );
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("text");
        std::fs::write(&file, "123").unwrap();
        let argument = format!("body=@{}", file.display());
        assert_eq!(sent(&[&argument], None), r#"{"body":"123"}"#);
    }

    #[test]
    fn what_is_no_argument_is_refused_with_the_forms_there_are() {
        for (bad, part) in [
            ("novalue", "k=v"),
            ("=x", "names no argument"),
            ("a:=nope", "is no JSON"),
            ("a=@/does/not/exist", "/does/not/exist"),
        ] {
            let failure = parse(&[bad.to_owned()]).unwrap_err();
            assert!(failure.message.contains(part), "{bad}: {}", failure.message);
            assert_eq!(failure.exit, 2);
        }
        let twice = ["a=1".to_owned(), "a=2".to_owned()];
        assert!(parse(&twice).unwrap_err().message.contains("twice"));
    }

    #[test]
    fn only_texts_that_could_be_something_else_need_the_schema() {
        let needs = |argument: &str| need_schema(&parse(&[argument.to_owned()]).unwrap());
        assert!(needs("a=1") && needs("a=true") && needs("a=[1]") && needs("a=null"));
        assert!(!needs("a=hello") && !needs("a=true story") && !needs("a:=1") && !needs("a="));
    }
}
