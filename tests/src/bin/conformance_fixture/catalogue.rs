//! What the fixture lists, as JSON: tools, resources, templates and prompts, and what the last three hold.

use serde_json::{Value, json};

use crate::answers::PNG;
use crate::input;
use crate::questions;
use crate::tasks;

/// The tool whose argument travels in a header too.
pub(crate) const CUSTOM_HEADER_TOOL: &str = "test_custom_header";

/// A tool with these properties, all of them required.
pub(crate) fn tool(name: &str, description: &str, properties: &Value) -> Value {
    let required: Vec<&String> = properties
        .as_object()
        .map(|properties| properties.keys().collect())
        .unwrap_or_default();
    json!({"name": name, "description": description,
        "inputSchema": {"type": "object", "properties": properties, "required": required}})
}

/// Tools without arguments: what each answers is in `tools`.
const PLAIN: [(&str, &str); 13] = [
    ("test_simple_text", "Answers with one text."),
    ("test_image_content", "Answers with one image."),
    ("test_audio_content", "Answers with one sound."),
    (
        "test_embedded_resource",
        "Answers with one embedded resource.",
    ),
    (
        "test_multiple_content_types",
        "Answers with a text, an image and a resource.",
    ),
    (
        "test_tool_with_logging",
        "Logs three messages while it runs.",
    ),
    ("test_error_handling", "Answers with isError."),
    (
        "test_tool_with_progress",
        "Reports progress three times while it runs.",
    ),
    (
        "test_reconnection",
        "Takes a moment, so that a stream can break meanwhile.",
    ),
    (
        "test_trigger_tool_change",
        "Replaces a tool, and tells that the tools changed.",
    ),
    (
        "test_trigger_prompt_change",
        "Replaces a prompt, and tells that the prompts changed.",
    ),
    (
        "test_missing_capability",
        "Refuses a client that declares no sampling.",
    ),
    (
        "test_logging_tool",
        "Logs only when the request asks for a level.",
    ),
];

/// `json_schema_2020_12_tool`: keywords a careless gateway loses.
fn schema_tool() -> Value {
    json!({
        "name": "json_schema_2020_12_tool",
        "description": "Its schema uses what JSON Schema 2020-12 added.",
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}}
            }},
            "properties": {
                "name": {"type": "string"},
                "address": {"$ref": "#/$defs/address"},
                "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                "phone": {"type": "string"},
                "email": {"type": "string"}
            },
            "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
            "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
            "then": {"required": ["phone"]},
            "else": {"required": ["email"]},
            "additionalProperties": false
        }
    })
}

/// The tool the SDK's own header check reads.
pub(crate) fn custom_header_tool() -> Value {
    tool(
        CUSTOM_HEADER_TOOL,
        "Takes a value that also travels in a header.",
        &json!({"value": {"type": "string", "x-mcp-header": "Value"}}),
    )
}

/// The one that a change replaces.
fn changing(change: u64) -> String {
    format!("test_after_change_{change}")
}

/// Every tool, always in this order.
pub(crate) fn tools(change: u64) -> Vec<Value> {
    let plain = PLAIN.map(|(name, description)| tool(name, description, &json!({})));
    let last = tool(
        &changing(change),
        "Another one after each change.",
        &json!({}),
    );
    plain
        .into_iter()
        .chain([schema_tool(), custom_header_tool()])
        .chain(questions::tools())
        .chain(tasks::tools())
        .chain([last])
        .collect()
}

/// Every resource.
pub(crate) fn resources() -> Value {
    json!([
        {"uri": "test://static-text", "name": "static-text",
            "description": "A text that never changes.", "mimeType": "text/plain"},
        {"uri": "test://static-binary", "name": "static-binary",
            "description": "An image that never changes.", "mimeType": "image/png"},
        {"uri": "test://watched-resource", "name": "watched-resource",
            "description": "A text that can be subscribed to.", "mimeType": "text/plain"}
    ])
}

/// The one template.
pub(crate) fn templates() -> Value {
    json!([{"uriTemplate": "test://template/{id}/data", "name": "template",
        "description": "Data for an id.", "mimeType": "application/json"}])
}

/// Every prompt.
pub(crate) fn prompts(change: u64) -> Value {
    json!([
        {"name": "test_simple_prompt", "description": "A prompt without arguments."},
        {"name": "test_prompt_with_arguments", "description": "A prompt with two arguments.",
            "arguments": [
                {"name": "arg1", "description": "First test argument", "required": true},
                {"name": "arg2", "description": "Second test argument", "required": true}
            ]},
        {"name": "test_prompt_with_embedded_resource", "description": "A prompt with a resource in it.",
            "arguments": [{"name": "resourceUri", "description": "The resource", "required": true}]},
        {"name": "test_prompt_with_image", "description": "A prompt with an image in it."},
        {"name": input::PROMPT, "description": "A prompt that asks the user first."},
        {"name": changing(change), "description": "Another one after each change."}
    ])
}

/// What reading a resource gives; `None` where there is none.
pub(crate) fn read(uri: &str) -> Option<Value> {
    let data = uri
        .strip_prefix("test://template/")
        .and_then(|rest| rest.strip_suffix("/data"));
    match (uri, data) {
        ("test://static-text", _) => Some(json!({"uri": uri, "mimeType": "text/plain",
            "text": "This is the content of the static text resource."})),
        ("test://watched-resource", _) => Some(json!({"uri": uri, "mimeType": "text/plain",
            "text": "Nothing has happened yet."})),
        ("test://static-binary", _) => {
            Some(json!({"uri": uri, "mimeType": "image/png", "blob": PNG}))
        }
        (_, Some(id)) => {
            let text =
                json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            Some(json!({"uri": uri, "mimeType": "application/json", "text": text.to_string()}))
        }
        _ => None,
    }
}

/// The messages of a prompt; `None` where there is none.
pub(crate) fn prompt(name: &str, argument: impl Fn(&str) -> String) -> Option<Value> {
    let said = |content: Value| json!({"role": "user", "content": content});
    let text = |text: String| said(json!({"type": "text", "text": text}));
    match name {
        "test_simple_prompt" => Some(json!([text("This is a simple prompt for testing.".into())])),
        "test_prompt_with_arguments" => Some(json!([text(format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1"),
            argument("arg2")
        ))])),
        "test_prompt_with_embedded_resource" => Some(json!([
            said(json!({"type": "resource", "resource": {
                "uri": argument("resourceUri"), "mimeType": "text/plain",
                "text": "Embedded resource content for testing."}})),
            text("Please process the embedded resource above.".into())
        ])),
        "test_prompt_with_image" => Some(json!([
            said(json!({"type": "image", "data": PNG, "mimeType": "image/png"})),
            text("Please analyze the image above.".into())
        ])),
        _ => None,
    }
}
