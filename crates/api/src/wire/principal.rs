//! Users, keys and workspaces.

use serde::{Deserialize, Serialize};

/// `GET /v1/me`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Me {
    /// Who asks.
    pub user: String,
    /// The workspace this request stands in.
    pub workspace: String,
    /// All workspaces the credential opens.
    pub workspaces: Vec<String>,
    /// Roles in this workspace.
    pub roles: Vec<String>,
    /// The credential used: a key's id, `login:<id>`, or `jwt:<digest>` for a token of the issuer.
    pub key_id: String,
    /// What the key is narrowed to; empty = everything its user may.
    pub scopes: Vec<String>,
}

/// Roles in one workspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Membership {
    /// The workspace.
    pub workspace: String,
    /// `admin`, `approver`, `operator`, `viewer`.
    pub roles: Vec<String>,
}

/// `POST /v1/users`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CreateUser {
    /// The user.
    pub user: String,
    /// Where, and as what.
    pub workspaces: Vec<Membership>,
}

/// One user.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct User {
    /// The user.
    pub user: String,
    /// Where, and as what.
    pub workspaces: Vec<Membership>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// `POST /v1/keys`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CreateKey {
    /// Whose.
    pub user: String,
    /// Only these; all of the user's when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workspaces: Vec<String>,
    /// Narrowed to these; everything the user may when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Never, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A fresh key; its secret is shown this once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct NewKey {
    /// What it is revoked by.
    pub key_id: String,
    /// The bearer token.
    pub key: String,
    /// Whose.
    pub user: String,
    /// RFC 3339; left out when it never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// `POST /v1/keys/{key_id}/rotate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct RotateKey {
    /// How long the old key is still good, in seconds: 3600 when left out, 604800 at most, 0 for not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u64>,
}

/// `POST /v1/login`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct LoginRequest {
    /// An API key, or a token of the issuer.
    pub key: String,
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginRequest")
    }
}

/// A login; its cookie stands in the answer's head alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Login {
    /// Who came in.
    pub user: String,
    /// The workspace requests stand in that name none.
    pub workspace: String,
    /// All workspaces it opens.
    pub workspaces: Vec<String>,
    /// Roles in the workspace.
    pub roles: Vec<String>,
    /// To be sent as `X-CSRF-Token` with every request that is not GET or HEAD.
    pub csrf_token: String,
    /// RFC 3339.
    pub expires_at: String,
}

/// One key, without its secret.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Key {
    /// What it is revoked by.
    pub key_id: String,
    /// How its token begins.
    pub prefix: String,
    /// Whose.
    pub user: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only these; empty = all of the user's.
    pub workspaces: Vec<String>,
    /// Narrowed to these.
    pub scopes: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; left out when it never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// RFC 3339; left out when never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
    /// RFC 3339; left out unless revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
}

/// `POST /v1/workspaces`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CreateWorkspace {
    /// Its id.
    pub workspace: String,
}

/// One workspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Workspace {
    /// Its id.
    pub workspace: String,
}
