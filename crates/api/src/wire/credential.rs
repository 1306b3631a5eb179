//! Callers' own credentials for servers: write-only.

use serde::{Deserialize, Serialize};

/// `PUT /v1/credentials/{server}`: read by the daemon, and never written.
#[cfg(feature = "daemon")]
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutCredentials {
    /// By the name that definitions refer to as `store:NAME`. Replaces all that were there.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub secrets: std::collections::BTreeMap<String, secrecy::SecretString>,
    /// For everybody in the workspace instead of the caller; admins only.
    #[serde(default)]
    pub shared: bool,
}

/// `POST /v1/credentials/{server}/authorize`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Authorize {
    /// For everybody in the workspace instead of the caller; admins only.
    #[serde(default)]
    pub shared: bool,
}

/// Where a person grants access.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct GrantLink {
    /// For a browser.
    pub url: String,
    /// RFC 3339.
    pub expires_at: String,
}

/// What there is for one server, without any value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Credential {
    /// The server.
    pub server: String,
    /// It belongs to the whole workspace.
    pub shared: bool,
    /// Names of secrets.
    pub secrets: Vec<String>,
    /// Grants at authorization servers.
    pub grants: Vec<Grant>,
    /// RFC 3339.
    pub updated_at: String,
}

/// A grant, without its tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Grant {
    /// Who gave it.
    pub issuer: String,
    /// What it is for, as the issuer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// When its present token ends; it is renewed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ends_at: Option<String>,
}
