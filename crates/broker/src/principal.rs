//! Who asks. Always from the credential, never from a header or argument the caller chose.

use serde::{Deserialize, Serialize};
use sessions::{UserId, WorkspaceId};

/// Built-in roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, and manages.
    Admin,
    /// Decides approvals.
    Approver,
    /// Calls tools.
    Operator,
    /// Calls read-only tools.
    Viewer,
}

/// What a key is narrowed to; empty = everything its user may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes(pub Vec<String>);

/// The authenticated caller, in one workspace.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The user.
    pub user: UserId,
    /// The workspace this request stands in; one of the user's own.
    pub workspace: WorkspaceId,
    /// All workspaces the credential opens.
    pub workspaces: Vec<WorkspaceId>,
    /// Roles in this workspace.
    pub roles: Vec<Role>,
    /// The key used, for audit.
    pub key_id: String,
    /// What the key is narrowed to.
    pub scopes: Scopes,
}

impl Principal {
    /// Whether the principal has a role in this workspace.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
