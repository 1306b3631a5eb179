//! One tool, resource, template or prompt, in its compact and its whole form.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use transports::ServerName;

use crate::clean::{self, Layout};
use crate::example;
use crate::json::{Json, Members};

/// A SHA-256, 64 hex digits in the store, first 12 on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// All 64 hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut digits = [0; 64];
        // There is room for all of them, and each is ASCII.
        let _ = hex::encode_to_slice(self.0, &mut digits);
        String::from_utf8(digits.to_vec()).unwrap_or_default()
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(hex, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The first 12 hex digits, as shown to callers.
    #[must_use]
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tool.
    Tool,
    /// A resource.
    Resource,
    /// A resource template.
    Template,
    /// A prompt.
    Prompt,
}

/// `server.name`, split at the first dot. For resources the name is the URI.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref {
    /// The server.
    pub server: ServerName,
    /// The upstream's own name, which may hold dots.
    pub name: Arc<str>,
}

impl Ref {
    /// Splits at the first dot; `None` when there is none or a side is empty or no server name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (server, name) = text.split_once('.')?;
        let server = ServerName::new(server).ok()?;
        (!name.is_empty()).then(|| Self {
            server,
            name: Arc::from(name),
        })
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server, self.name)
    }
}

/// Tool annotations with the specification's defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the specification's four hints"
)]
pub struct Hints {
    /// `readOnlyHint`, default false.
    pub read_only: bool,
    /// `destructiveHint`, default true.
    pub destructive: bool,
    /// `idempotentHint`, default false.
    pub idempotent: bool,
    /// `openWorldHint`, default true.
    pub open_world: bool,
}

impl Default for Hints {
    fn default() -> Self {
        Self {
            read_only: false,
            destructive: true,
            idempotent: false,
            open_world: true,
        }
    }
}

/// One entry of a catalogue. Immutable.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it is.
    pub reference: Ref,
    /// What it is.
    pub kind: Kind,
    /// The upstream's title, cleaned.
    pub title: Option<String>,
    /// First sentence of the description, at most 120 characters, cleaned.
    pub summary: String,
    /// One-line signature, at most 240 characters; empty for resources.
    pub shape: String,
    /// Hash of the definition (discovery.md § Hash).
    pub hash: Hash,
    /// Hints, for tools.
    pub hints: Hints,
    /// Why this tool's schema is refused, if it is: listed, but cannot be called.
    pub unsupported_schema: Option<String>,
    /// Invisible, bidi or control characters were stripped from the texts shown.
    pub flagged: bool,
    /// Its name can be taken for that of another tool of the same server.
    pub look_alike: bool,
    /// The upstream's own definition, untouched.
    pub raw: Arc<RawValue>,
}

/// The whole form, read from the raw definition each time: help is asked for rarely and one entry at a time.
impl Entry {
    /// The whole description with hidden characters taken out; empty when there is none.
    #[must_use]
    pub fn description(&self) -> String {
        let text = self
            .members()
            .and_then(|members| members.text("description"));
        clean::text(&text.unwrap_or_default(), Layout::Block).into_owned()
    }

    /// `inputSchema` as the upstream wrote it.
    #[must_use]
    pub fn input_schema(&self) -> Option<&RawValue> {
        self.members()?.get("inputSchema")
    }

    /// `outputSchema` as the upstream wrote it. Check it with [`crate::bounds::check`] before compiling it.
    #[must_use]
    pub fn output_schema(&self) -> Option<&RawValue> {
        self.members()?.get("outputSchema")
    }

    /// `annotations` as the upstream wrote them.
    #[must_use]
    pub fn annotations(&self) -> Option<&RawValue> {
        self.members()?.get("annotations")
    }

    /// Any other member as the upstream wrote it: `mimeType`, `size`, `arguments`, `_meta`, …
    #[must_use]
    pub fn member(&self, key: &str) -> Option<&RawValue> {
        self.members()?.get(key)
    }

    /// Arguments to show in help: every required one with a plausible value, in the schema's order.
    /// `None` for what takes no arguments of that kind, or whose schema is refused.
    #[must_use]
    pub fn example_arguments(&self) -> Option<Box<RawValue>> {
        if self.unsupported_schema.is_some() {
            return None;
        }
        let json = Json::parse(self.raw.get()).ok()?;
        let example = match self.kind {
            Kind::Tool => example::of_schema(json.get("inputSchema")),
            Kind::Prompt => example::of_prompt(json.get("arguments")),
            Kind::Resource | Kind::Template => return None,
        };
        serde_json::value::to_raw_value(&example).ok()
    }

    fn members(&self) -> Option<Members<'_>> {
        Members::parse(self.raw.get())
    }
}
