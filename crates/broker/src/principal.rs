//! Who asks. Always from the credential, never from a header or argument the caller chose.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sessions::{UserId, WorkspaceId};

use crate::issuer::TOKEN_PREFIX;

/// A role in a workspace: built in, or named under `roles:` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// Everything, and manages.
    Admin,
    /// Decides approvals.
    Approver,
    /// Calls tools.
    Operator,
    /// Calls read-only tools.
    Viewer,
    /// What the configuration says under this name; nothing where it says nothing.
    Custom(RoleName),
}

/// Longest name of a role, in bytes: it stands in every principal, which is copied for each request.
const MAX_ROLE_BYTES: usize = 31;

/// The name of a role that is not built in: `[a-z0-9][a-z0-9_-]{0,30}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleName {
    bytes: [u8; MAX_ROLE_BYTES],
    len: u8,
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a role is named with 1 to {MAX_ROLE_BYTES} of a-z, 0-9, _ and -, the first a letter or digit"
)]
pub struct BadRole;

impl RoleName {
    fn new(name: &str) -> Result<Self, BadRole> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = name
            .bytes()
            .all(|byte| plain(byte) || matches!(byte, b'_' | b'-'));
        let len = u8::try_from(name.len()).map_err(|_| BadRole)?;
        if name.len() > MAX_ROLE_BYTES || !fits || !name.bytes().next().is_some_and(plain) {
            return Err(BadRole);
        }
        let mut bytes = [0; MAX_ROLE_BYTES];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { bytes, len })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII was let in.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Debug for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Role {
    /// The role of a name.
    ///
    /// # Errors
    /// [`BadRole`], for what can be no role's name.
    pub fn named(name: &str) -> Result<Self, BadRole> {
        Ok(match name {
            "admin" => Self::Admin,
            "approver" => Self::Approver,
            "operator" => Self::Operator,
            "viewer" => Self::Viewer,
            other => Self::Custom(RoleName::new(other)?),
        })
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Admin => "admin",
            Self::Approver => "approver",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Custom(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Role {
    type Error = BadRole;

    fn try_from(name: String) -> Result<Self, BadRole> {
        Self::named(&name)
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.as_str().to_owned()
    }
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
    /// The credential used, for audit: a key's id, `login:<id>` or `jwt:<digest>`.
    pub key_id: String,
    /// What the key is narrowed to.
    pub scopes: Scopes,
    /// When the credential ends by itself; `None` = when it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Principal {
    /// Whether the principal has a role in this workspace.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether a token of the issuer is the credential: its user need not be one the bridge knows.
    #[must_use]
    pub fn is_of_issuer(&self) -> bool {
        self.key_id.starts_with(TOKEN_PREFIX)
    }
}

#[cfg(test)]
impl Principal {
    /// An operator of one workspace.
    pub(crate) fn operator(workspace: &str, user: &str) -> Self {
        let workspace = WorkspaceId::new(workspace).unwrap();
        Self {
            user: UserId::new(user).unwrap(),
            workspace: workspace.clone(),
            workspaces: vec![workspace],
            roles: vec![Role::Operator],
            key_id: "k".to_owned(),
            scopes: Scopes::default(),
            expires_at: None,
        }
    }
}
