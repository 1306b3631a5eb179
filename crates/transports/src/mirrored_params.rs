//! Tool arguments a modern server wants mirrored into headers (`x-mcp-header`, 2026-07-28 § Transports).
//!
//! Learns from the tool lists that pass by; asks nothing by itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::http_headers::{header_text, text_member};
use crate::wire::Request;

/// Tools with mirrored arguments remembered for one server; they are rare.
const MAX_TOOLS: usize = 1024;
/// Mirrored arguments of one tool; further ones are not sent, and the server refuses the call.
const MAX_HEADERS: usize = 64;
/// The keyword.
const ANNOTATION: &str = "x-mcp-header";

/// One argument, by its path, and the header it goes into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    path: Vec<String>,
    header: HeaderName,
}

impl Mirror {
    /// The header, `mcp-param-…`.
    #[must_use]
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The argument's value; an absent or null one is not mirrored.
    #[must_use]
    pub fn value_in<'a>(&self, arguments: &'a Value) -> Option<&'a Value> {
        let value = self
            .path
            .iter()
            .try_fold(arguments, |value, step| value.get(step));
        value.filter(|value| !value.is_null())
    }
}

/// The arguments a tool's input schema wants mirrored; none when its annotations are not valid.
#[must_use]
pub fn mirrors(schema: &Value) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    match find(schema, Some(&mut Vec::new()), &mut mirrors) {
        Ok(()) => mirrors,
        Err(_) => Vec::new(),
    }
}

/// What is known of one server's tools.
#[derive(Debug, Default)]
pub(crate) struct Mirrored(Mutex<HashMap<String, Vec<Mirror>>>);

/// Why a tool's annotations are refused.
type Fault = &'static str;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    tools: &'a RawValue,
}

#[derive(Deserialize)]
struct Tool<'a> {
    name: String,
    #[serde(borrow, default, rename = "inputSchema")]
    input_schema: Option<&'a RawValue>,
}

impl Mirrored {
    /// Looks through the result of a `tools/list`, and gives it back without the tools whose annotations
    /// the specification forbids: a client has to leave those out. Every other byte stays.
    pub(crate) fn learn(&self, result: Box<RawValue>) -> Box<RawValue> {
        // Most servers mirror nothing, and then nothing is parsed.
        if memchr::memmem::find(result.get().as_bytes(), ANNOTATION.as_bytes()).is_none() {
            return result;
        }
        let text = result.get();
        let Ok(Page { tools: list }) = serde_json::from_str::<Page<'_>>(text) else {
            return result;
        };
        let Ok(tools) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else {
            return result;
        };
        let listed = tools.len();
        let kept: Vec<&str> = tools
            .into_iter()
            .filter(|tool| self.learn_tool(tool))
            .map(RawValue::get)
            .collect();
        if kept.len() == listed {
            return result;
        }
        // The list was borrowed from the text, so this is where in it it stands.
        let start = list.get().as_ptr().addr() - text.as_ptr().addr();
        let (before, after) = (&text[..start], &text[start + list.get().len()..]);
        RawValue::from_string(format!("{before}[{}]{after}", kept.join(","))).unwrap_or(result)
    }

    /// Learns one tool; false when it has to be left out.
    fn learn_tool(&self, tool: &RawValue) -> bool {
        // A tool that cannot be read is not ours to judge.
        let Ok(tool) = serde_json::from_str::<Tool<'_>>(tool.get()) else {
            return true;
        };
        let schema = tool
            .input_schema
            .and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        let mut mirrors = Vec::new();
        let read = schema.map_or(Ok(()), |schema| {
            find(&schema, Some(&mut Vec::new()), &mut mirrors)
        });
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(fault) = read {
            tracing::warn!(tool.name = %tool.name, reason = fault, "transports.tool_left_out");
            known.remove(&tool.name);
            return false;
        }
        if mirrors.is_empty() {
            known.remove(&tool.name);
        } else if known.len() < MAX_TOOLS || known.contains_key(&tool.name) {
            known.insert(tool.name, mirrors);
        }
        true
    }

    /// Adds the headers of a `tools/call`.
    pub(crate) fn add(&self, headers: &mut HeaderMap, request: &Request) {
        if request.method != "tools/call" {
            return;
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return;
        }
        let mirrors =
            text_member(&request.params, "name").and_then(|name| known.get(&*name).cloned());
        drop(known);
        let (Some(mirrors), Some(arguments)) = (mirrors, request.params.get("arguments")) else {
            return;
        };
        let Ok(arguments) = serde_json::from_str::<Value>(arguments.get()) else {
            return;
        };
        for mirror in mirrors {
            let text = match mirror.value_in(&arguments) {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
                _ => continue,
            };
            if let Some(value) = header_text(&text) {
                headers.insert(mirror.header, value);
            }
        }
    }
}

/// Collects the annotations of a schema. `path` is how it is reached from the root by `properties` alone;
/// an annotation anywhere else is a fault.
fn find(
    schema: &Value,
    mut path: Option<&mut Vec<String>>,
    mirrors: &mut Vec<Mirror>,
) -> Result<(), Fault> {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(schemas) => {
            return schemas
                .iter()
                .try_for_each(|schema| find(schema, None, mirrors));
        }
        _ => return Ok(()),
    };
    if let Some(header) = members.get(ANNOTATION) {
        let mirror = annotation(header, members, path.as_deref())?;
        if mirrors.iter().any(|other| other.header == mirror.header) {
            return Err("two arguments go into one header");
        }
        if mirrors.len() < MAX_HEADERS {
            mirrors.push(mirror);
        }
    }
    for (keyword, value) in members {
        match (keyword.as_str(), value) {
            // These hold values, not schemas.
            (ANNOTATION | "const" | "default" | "enum" | "examples", _) => {}
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    let Some(path) = path.as_deref_mut() else {
                        find(property, None, mirrors)?;
                        continue;
                    };
                    path.push(name.clone());
                    find(property, Some(path), mirrors)?;
                    path.pop();
                }
            }
            // These hold schemas by name, and a name is no keyword.
            (
                "$defs" | "definitions" | "dependentSchemas" | "patternProperties",
                Value::Object(schemas),
            ) => {
                for schema in schemas.values() {
                    find(schema, None, mirrors)?;
                }
            }
            (_, value) => find(value, None, mirrors)?,
        }
    }
    Ok(())
}

/// Reads one annotation.
fn annotation(
    header: &Value,
    schema: &serde_json::Map<String, Value>,
    path: Option<&Vec<String>>,
) -> Result<Mirror, Fault> {
    let path = path
        .filter(|path| !path.is_empty())
        .ok_or("an annotation stands where no argument can be")?;
    let name = header
        .as_str()
        .filter(|name| !name.is_empty())
        .ok_or("a header has no name")?;
    let header = format!("mcp-param-{name}")
        .parse()
        .map_err(|_| "a header's name holds what no header's name may hold")?;
    let primitive = |kind: &Value| matches!(kind.as_str(), Some("string" | "integer" | "boolean"));
    let mirrored = match schema.get("type") {
        // Whatever it may be, only text, numbers and truth are mirrored.
        None => true,
        Some(Value::Array(kinds)) => {
            let mut kinds = kinds
                .iter()
                .filter(|kind| kind.as_str() != Some("null"))
                .peekable();
            kinds.peek().is_some() && kinds.all(primitive)
        }
        Some(kind) => primitive(kind),
    };
    if !mirrored {
        return Err("an annotated argument is neither text, integer nor boolean");
    }
    Ok(Mirror {
        path: path.clone(),
        header,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Params;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn annotated_arguments_are_mirrored_and_others_are_not() {
        let mirrored = Mirrored::default();
        let list = r#"{"tools":[{"name":"t","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"},
            "plain":{"type":"string"},"deep":{"properties":{"n":{"type":["integer","null"],"x-mcp-header":"N"}}},
            "gone":{"x-mcp-header":"Gone"}}}}]}"#;
        assert_eq!(mirrored.learn(raw(list)).get(), list);
        let params = Params::default().with_text("name", "t").with(
            "arguments",
            raw(r#"{"region":"Zürich","plain":"x","deep":{"n":7},"gone":null}"#),
        );
        let request = Request {
            params,
            ..Request::new("tools/call", Duration::ZERO)
        };
        let mut headers = HeaderMap::new();
        mirrored.add(&mut headers, &request);
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert_eq!(headers["mcp-param-region"], "=?base64?WsO8cmljaA==?=");
        assert_eq!(headers["mcp-param-n"], "7");
    }

    #[test]
    fn tools_with_forbidden_annotations_are_left_out_and_nothing_else_changes() {
        let tool = |name: &str, schema: &str| {
            format!(r#"{{"name":"{name}", "inputSchema":{schema},"x":1.0}}"#)
        };
        let argument = |kind: &str, header: &str| {
            format!(r#"{{"properties":{{"a":{{"type":"{kind}","x-mcp-header":"{header}"}}}}}}"#)
        };
        let two = |one: &str, other: &str| {
            format!(
                r#"{{"properties":{{"a":{{"x-mcp-header":"{one}"}},"b":{{"x-mcp-header":"{other}"}}}}}}"#
            )
        };
        let good = [
            argument("string", "Region"),
            two("A", "B"),
            r#"{"properties":{"x-mcp-header":{"type":"object"}},"default":{"x-mcp-header":"a"},
                "$defs":{"x-mcp-header":{"type":"number"}}}"#
                .to_owned(),
        ];
        let bad = [
            argument("string", ""),
            argument("object", "Data"),
            argument("array", "Data"),
            argument("null", "Data"),
            argument("number", "Data"),
            argument("string", "My Region"),
            argument("string", "Region:Primary"),
            argument("string", "Région"),
            argument("string", "Region\\t1"),
            argument("string", "Region\\r\\nX: y"),
            two("Region", "Region"),
            two("MyField", "myfield"),
            r#"{"x-mcp-header":"Root"}"#.to_owned(),
            r#"{"properties":{"a":{"x-mcp-header":7}}}"#.to_owned(),
            r#"{"properties":{"a":{"items":{"type":"string","x-mcp-header":"A"}}}}"#.to_owned(),
            r#"{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#.to_owned(),
            r#"{"$defs":{"d":{"type":"string","x-mcp-header":"A"}}}"#.to_owned(),
        ];
        let mut all = Vec::new();
        let mut kept = Vec::new();
        for (number, schema) in bad.iter().enumerate() {
            all.push(tool(&format!("bad{number}"), schema));
            if let Some(schema) = good.get(number) {
                kept.push(tool(&format!("good{number}"), schema));
                all.push(kept[number].clone());
            }
        }
        let page = |tools: &[String]| {
            format!(
                r#"{{"tools":[{}], "nextCursor":"c","ttlMs":1.0}}"#,
                tools.join(",")
            )
        };
        let left = Mirrored::default().learn(raw(&page(&all)));
        assert_eq!(left.get(), page(&kept));
    }
}
