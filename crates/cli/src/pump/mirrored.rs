//! Tool parameters that a modern server wants repeated as `Mcp-Param-…` headers. A client on stdio does
//! not know of them, so the pump learns them from the tool lists that pass and writes them. Bounded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use super::message::{Message, header_value};

/// What marks a parameter in a tool's schema.
const MARK: &str = "x-mcp-header";

/// Tools with such parameters; there are few of them anywhere.
const MAX_TOOLS: usize = 1024;

/// Such parameters of one tool.
const MAX_PARAMETERS: usize = 32;

/// How deep a parameter may lie.
const MAX_DEPTH: usize = 16;

/// One such parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    header: String,
    path: Vec<String>,
}

/// The parameters known so far, by tool.
#[derive(Debug, Default)]
pub(crate) struct Mirrored {
    tools: Mutex<HashMap<String, Vec<Parameter>>>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    result: Tools,
}

#[derive(Debug, Deserialize)]
struct Tools {
    tools: Vec<Tool>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    name: String,
    #[serde(rename = "inputSchema", default)]
    input_schema: Value,
}

impl Mirrored {
    /// Learns from an answer to `tools/list`.
    pub(crate) fn learn(&self, answer: &str) {
        let mut known = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        // Nearly every list: nothing to learn, nothing to forget.
        if known.is_empty() && !answer.contains(MARK) {
            return;
        }
        let Ok(listed) = serde_json::from_str::<Listed>(answer) else {
            return;
        };
        for tool in listed.result.tools {
            let mut found = Vec::new();
            collect(&tool.input_schema, &mut Vec::new(), &mut found);
            if found.is_empty() {
                known.remove(&tool.name);
            } else if known.len() < MAX_TOOLS || known.contains_key(&tool.name) {
                known.insert(tool.name, found);
            }
        }
    }

    /// The headers a modern tool call has to repeat.
    pub(crate) fn headers(&self, message: &Message) -> Vec<(Cow<'static, str>, String)> {
        let (Some(_), Some("tools/call"), Some(tool)) =
            (&message.version, message.method(), &message.name)
        else {
            return Vec::new();
        };
        let known = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(parameters), Some(arguments)) = (known.get(tool), message.arguments()) else {
            return Vec::new();
        };
        let header = |parameter: &Parameter| {
            let start = Some(&arguments);
            let value = parameter.path.iter().fold(start, |at, name| at?.get(name));
            let text = match value? {
                Value::String(text) => text.clone(),
                Value::Bool(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            let name = format!("mcp-param-{}", parameter.header.to_ascii_lowercase());
            Some((Cow::Owned(name), header_value(&text)))
        };
        parameters.iter().filter_map(header).collect()
    }
}

/// Parameters that are reached through `properties` alone; marks anywhere else mean nothing.
fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Parameter>) {
    let Some(Value::Object(properties)) = schema.get("properties") else {
        return;
    };
    for (name, property) in properties {
        if path.len() >= MAX_DEPTH || found.len() >= MAX_PARAMETERS {
            return;
        }
        path.push(name.clone());
        match property.get(MARK).and_then(Value::as_str) {
            Some(header) if is_token(header) => found.push(Parameter {
                header: header.to_owned(),
                path: path.clone(),
            }),
            _ => {}
        }
        collect(property, path, found);
        path.pop();
    }
}

/// Whether it may be part of a header's name.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(tool: &str, arguments: &Value) -> Message {
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": tool, "arguments": arguments,
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}});
        Message::read(line.to_string().into_bytes()).unwrap()
    }

    fn list(schema: &Value) -> String {
        json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [
            {"name": "sql", "inputSchema": schema}, {"name": "plain"}]}})
        .to_string()
    }

    #[test]
    fn marked_parameters_are_repeated_where_they_have_a_value() {
        let mirrored = Mirrored::default();
        mirrored.learn(&list(&json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"properties": {"dry": {"type": "boolean", "x-mcp-header": "Dry"}}},
            "none": {"type": "string", "x-mcp-header": "None"},
            "bad": {"type": "string", "x-mcp-header": "a b"},
            "list": {"items": {"x-mcp-header": "Item"}},
        }})));
        let headers = mirrored.headers(&call(
            "sql",
            &json!({"region": "Zürich", "deep": {"dry": true}, "none": null, "bad": "x"}),
        ));
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        headers.sort_unstable();
        assert_eq!(
            headers,
            [
                ("mcp-param-dry", "true"),
                ("mcp-param-region", "=?base64?WsO8cmljaA==?=")
            ]
        );
        assert!(
            mirrored
                .headers(&call("plain", &json!({"region": "x"})))
                .is_empty()
        );
    }

    #[test]
    fn a_tool_that_lost_its_marks_is_forgotten() {
        let mirrored = Mirrored::default();
        let marked = json!({"properties": {"a": {"x-mcp-header": "A"}}});
        mirrored.learn(&list(&marked));
        assert_eq!(mirrored.headers(&call("sql", &json!({"a": 1}))).len(), 1);
        mirrored.learn(&list(&json!({"properties": {"a": {}}})));
        assert!(mirrored.headers(&call("sql", &json!({"a": 1}))).is_empty());
    }
}
