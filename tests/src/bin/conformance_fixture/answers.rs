//! Typed answers of the SDK, written as the JSON that goes over the wire.

use rmcp::ErrorData;
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// One blue pixel.
pub(crate) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNQSDgAAAHkAUGcFuGgAAAAAElFTkSuQmCC";
/// A millisecond of silence.
pub(crate) const WAV: &str =
    "UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA==";

/// The SDK's type for this JSON.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// As [`typed`], marked complete; the SDK takes the mark off for old peers.
pub(crate) fn complete<T: DeserializeOwned>(mut value: Value) -> Result<T, ErrorData> {
    value["resultType"] = json!("complete");
    typed(value)
}

/// A list or a resource, with the caching hints 2026-07-28 asks for.
pub(crate) fn cacheable<T: DeserializeOwned>(mut value: Value) -> Result<T, ErrorData> {
    value["ttlMs"] = json!(60_000);
    value["cacheScope"] = json!("public");
    complete(value)
}

/// A tool's result with these content blocks.
pub(crate) fn content(blocks: &Value) -> Result<CallToolResponse, ErrorData> {
    complete::<CallToolResult>(json!({"content": blocks})).map(Into::into)
}

/// A tool's result with one text.
pub(crate) fn text(text: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}
