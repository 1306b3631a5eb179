//! `list_catalog` and `get_tool_help`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `GET /v1/catalog`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Catalog {
    /// Of everything the caller may see; also the `ETag`.
    pub catalog_hash: String,
    /// What was asked for; left out when only changes are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<CatalogItem>>,
    /// Where the next page begins.
    #[serde(default)]
    pub next_cursor: Option<String>,
    /// A search found nothing that fits.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub nothing_fits: bool,
    /// `since` is no longer remembered: `items` is the whole.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub reset: bool,
    /// With `since`: entries that are new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<Vec<CatalogItem>>,
    /// With `since`: entries whose hash changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<CatalogItem>>,
    /// With `since`: refs that are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Vec<String>>,
    /// Every server the caller may see.
    pub servers: Vec<ServerState>,
}

/// One entry in its compact form; with `fields=names` only `ref` and `kind`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CatalogItem {
    /// `server.name`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// `tool`, `resource`, `template` or `prompt`.
    pub kind: String,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The server's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The server's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// First sentence of the description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// One-line signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// Of the definition, 12 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What the tool does to the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<Hints>,
    /// Of a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The server's entries could not be refreshed.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub stale: bool,
    /// Invisible or misleading characters were stripped from its texts.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub flagged: bool,
    /// What to be wary of: `invisible_text`, `look_alike` (another tool of the server has nearly the same name),
    /// `quarantined`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Its definition is not the approved one: what is not read-only cannot be called.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub quarantined: bool,
    /// Why the tool cannot be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupported_schema: Option<String>,
}

/// A tool's annotations with the specification's defaults and the owner's overrides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the specification's four hints"
)]
pub struct Hints {
    /// It changes nothing.
    pub read_only: bool,
    /// It may destroy.
    pub destructive: bool,
    /// Twice is the same as once.
    pub idempotent: bool,
    /// It reaches beyond the server.
    pub open_world: bool,
}

/// One server's place in the catalogue.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ServerState {
    /// Its name.
    pub server: String,
    /// `opening`, `ready`, `stale`, `down`, `disabled`.
    pub state: String,
    /// `modern` or `legacy`, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub era: Option<String>,
    /// How many tools.
    pub tools: usize,
    /// RFC 3339: since when its entries could not be refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// A list was cut at the cap, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<String>,
}

/// `GET /v1/tools/help`: the answers in the order asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Help {
    /// One per ref.
    pub items: Vec<HelpItem>,
}

/// One tool explained; or `unchanged`, or `missing` with refs that look like it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "marks that are mostly absent on the wire"
)]
pub struct HelpItem {
    /// `server.tool`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The caller's `if_hash` is still right; nothing else is told.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub unchanged: bool,
    /// There is no such tool.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub missing: bool,
    /// With `missing`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// Of the definition, 12 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The server's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The server's description, whole; untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// One-line signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// What the tool does to the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<Hints>,
    /// The server's `inputSchema`, untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub input_schema: Option<Box<RawValue>>,
    /// The server's `outputSchema`, untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub output_schema: Option<Box<RawValue>>,
    /// The server's `annotations`, untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub annotations: Option<Box<RawValue>>,
    /// Arguments that satisfy the required part of the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub example: Option<serde_json::Value>,
    /// The server's entries could not be refreshed.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub stale: bool,
    /// Invisible or misleading characters were stripped from its texts.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub flagged: bool,
    /// What to be wary of: `invisible_text`, `look_alike` (another tool of the server has nearly the same name),
    /// `quarantined`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Its definition is not the approved one: what is not read-only cannot be called.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub quarantined: bool,
    /// Why the tool cannot be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupported_schema: Option<String>,
}
