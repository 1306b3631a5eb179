//! One tool, resource, template or prompt, in its compact and its whole form.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use transports::ServerName;

/// A SHA-256, 64 hex digits in the store, first 12 on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// All 64 hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                use fmt::Write as _;
                let _ = write!(text, "{byte:02x}");
                text
            })
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
    /// The upstream's own definition, untouched.
    pub raw: Arc<RawValue>,
}
