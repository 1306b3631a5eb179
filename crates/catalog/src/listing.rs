//! Fetches a server's whole offer over a session: every page, with caps and a cycle guard.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sessions::Session;
use transports::RequestError;

/// The raw definitions a server listed.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// `tools/list`.
    pub tools: Vec<Arc<RawValue>>,
    /// `resources/list`.
    pub resources: Vec<Arc<RawValue>>,
    /// `resources/templates/list`.
    pub templates: Vec<Arc<RawValue>>,
    /// `prompts/list`.
    pub prompts: Vec<Arc<RawValue>>,
    /// The smallest `ttlMs` the server gave, if any.
    pub ttl_ms: Option<u64>,
    /// `cacheScope` was `public` on every list: may be shared in the workspace.
    pub public: bool,
    /// A list was cut at a cap or failed, in words.
    pub truncated: Option<String>,
    /// Definitions the specification tells a client to drop (invalid `x-mcp-header` annotations).
    pub left_out: usize,
}

/// A listing failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer is no list.
    #[error("{detail}")]
    Malformed {
        /// In words.
        detail: String,
    },
}

/// Lists everything the server's capabilities offer. A method the server does not know counts as an empty list.
///
/// # Errors
/// [`FetchError`]; the whole takes no longer than `timeout`.
pub async fn fetch(session: &Session, timeout: Duration) -> Result<Listing, FetchError> {
    let _ = (session, timeout);
    todo!("catalog")
}
