//! What is known of a legacy client's session: whose it is, what the client said, and what it is asked.

use std::sync::Arc;

use serde_json::value::RawValue;
use sessions::{Lane, UserId, WorkspaceId};

use super::Face;
use super::abilities::Abilities;
use super::era::Revision;
use super::log::Log;
use super::visit::Wish;

/// What a session is and stays.
#[derive(Debug)]
pub(super) struct Facts {
    /// `Mcp-Session-Id`.
    pub(super) id: String,
    /// Whose it is.
    pub(super) user: UserId,
    /// In which workspace.
    pub(super) workspace: WorkspaceId,
    /// At which endpoint.
    pub(super) face: Face,
    /// The conversation, for servers that keep one session for each.
    pub(super) lane: Lane,
}

/// What `initialize` said.
#[derive(Debug)]
pub(super) struct Greeting {
    /// What was agreed on.
    pub(super) revision: Revision,
    /// What the client declared.
    pub(super) capabilities: Arc<RawValue>,
    /// The same, read.
    pub(super) abilities: Abilities,
}

/// The one stream of a client of HTTP+SSE, and what its URL said.
#[derive(Debug)]
pub(super) struct Outlet {
    /// Gets every message.
    pub(super) log: Arc<Log>,
    /// The query of its URL.
    pub(super) wish: Wish,
}

/// A server's question, and where the answer belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The call that asks.
    pub(super) call_id: String,
    /// Its name for the question.
    pub(super) key: String,
}
