//! Resources, resource templates, prompts and completion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One resource.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Resource {
    /// The server.
    pub server: String,
    /// Its URI.
    pub uri: String,
    /// The server's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The server's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// First sentence of the description.
    pub summary: String,
    /// Its media type, as told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Its size, as told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Of the definition.
    pub hash: String,
    /// The server's entries could not be refreshed.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub stale: bool,
}

/// One resource template.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ResourceTemplate {
    /// The server.
    pub server: String,
    /// An RFC 6570 template.
    pub uri_template: String,
    /// The server's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The server's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// First sentence of the description.
    pub summary: String,
    /// Its media type, as told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Of the definition.
    pub hash: String,
    /// The server's entries could not be refreshed.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub stale: bool,
}

/// One prompt.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Prompt {
    /// `server.prompt`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The server.
    pub server: String,
    /// The server's own name for it.
    pub name: String,
    /// The server's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// First sentence of the description.
    pub summary: String,
    /// One-line signature.
    pub shape: String,
    /// The server's `arguments`, untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Vec<Object>>))]
    pub arguments: Option<Box<RawValue>>,
    /// Of the definition.
    pub hash: String,
    /// The server's entries could not be refreshed.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub stale: bool,
}

/// `GET /v1/resources/read`: the MCP result's members, with the call's own beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Contents {
    /// `call_…`.
    pub call_id: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// From accepted to answered.
    pub duration_ms: u64,
    /// MCP `contents`, untouched.
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<Object>))]
    pub contents: Box<RawValue>,
}

/// `POST /v1/prompts/get`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct PromptRequest {
    /// `server.prompt`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// MCP knows strings only.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
    /// The run or conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Deadline from now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The MCP result's members, with the call's own beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Messages {
    /// `call_…`.
    pub call_id: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// From accepted to answered.
    pub duration_ms: u64,
    /// MCP `description`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// MCP `messages`, untouched.
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<Object>))]
    pub messages: Box<RawValue>,
}

/// `POST /v1/complete`: either `ref` (a prompt) or `server` and `uri_template`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CompleteRequest {
    /// `server.prompt`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri_template: Option<String>,
    /// What was typed so far.
    pub argument: Argument,
    /// Arguments already chosen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// The run or conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Deadline from now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// One argument to be completed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// So far.
    #[serde(default)]
    pub value: String,
}

/// The MCP result's members, with the call's own beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Completion {
    /// `call_…`.
    pub call_id: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// From accepted to answered.
    pub duration_ms: u64,
    /// MCP `completion {values, total?, hasMore?}`, untouched.
    #[cfg_attr(feature = "daemon", schema(value_type = Object))]
    pub completion: Box<RawValue>,
}
