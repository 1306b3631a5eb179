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
/// Mirrored arguments of one tool, and how deep in its schema they may stand.
const MAX_HEADERS: usize = 32;
const MAX_DEPTH: usize = 8;

/// One argument, by its path, and the header it goes into.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    path: Vec<String>,
    header: HeaderName,
}

/// What is known of one server's tools.
#[derive(Debug, Default)]
pub(crate) struct Mirrored(Mutex<HashMap<String, Vec<Mirror>>>);

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tools: Vec<Tool>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default, rename = "inputSchema")]
    input_schema: Option<Box<RawValue>>,
}

impl Mirrored {
    /// Looks through the result of a `tools/list`.
    pub(crate) fn learn(&self, result: &RawValue) {
        // Most servers mirror nothing, and then nothing is parsed.
        if !result.get().contains("x-mcp-header") {
            return;
        }
        let Ok(page) = serde_json::from_str::<Page>(result.get()) else {
            return;
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for tool in page.tools {
            let schema = tool
                .input_schema
                .as_deref()
                .and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
            let mut mirrors = Vec::new();
            if let Some(schema) = &schema {
                find(schema, &mut Vec::new(), &mut mirrors);
            }
            if mirrors.is_empty() {
                known.remove(&tool.name);
            } else if known.len() < MAX_TOOLS || known.contains_key(&tool.name) {
                known.insert(tool.name, mirrors);
            }
        }
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
            let value = mirror
                .path
                .iter()
                .try_fold(&arguments, |value, step| value.get(step));
            let text = match value {
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

/// Collects the annotations of a schema's own properties; those inside `oneOf` and the like are not valid.
fn find(schema: &Value, path: &mut Vec<String>, mirrors: &mut Vec<Mirror>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    for (name, property) in properties {
        if mirrors.len() >= MAX_HEADERS || path.len() >= MAX_DEPTH {
            return;
        }
        path.push(name.clone());
        let header = property.get("x-mcp-header").and_then(Value::as_str);
        if let Some(header) =
            header.and_then(|header| format!("mcp-param-{header}").parse::<HeaderName>().ok())
        {
            mirrors.push(Mirror {
                path: path.clone(),
                header,
            });
        }
        find(property, path, mirrors);
        path.pop();
    }
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
        mirrored.learn(&raw(
            r#"{"tools":[{"name":"t","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"},
            "plain":{"type":"string"},"deep":{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
            "bad":{"x-mcp-header":"a b"}}}}]}"#,
        ));
        let params = Params::default().with_text("name", "t").with(
            "arguments",
            raw(r#"{"region":"Zürich","plain":"x","deep":{"n":7},"bad":"y"}"#),
        );
        let request = Request {
            method: "tools/call".into(),
            params,
            meta: Params::default(),
            timeout: Duration::ZERO,
            progress: None,
            repeatable: false,
        };
        let mut headers = HeaderMap::new();
        mirrored.add(&mut headers, &request);
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert_eq!(headers["mcp-param-region"], "=?base64?WsO8cmljaA==?=");
        assert_eq!(headers["mcp-param-n"], "7");
    }
}
