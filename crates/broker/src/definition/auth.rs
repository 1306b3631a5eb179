//! How each caller's own access to a server is had: what a definition may say of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Value;

/// Each caller's own access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Each user grants the bridge access at the server's authorization server.
    pub oauth: OAuth,
}

/// OAuth 2.1, authorization code with PKCE. What is left out is found by the server's metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth {
    /// The bridge as the authorization server knows it. Without it the bridge registers itself, where that is offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its secret, for a confidential client: a reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Value>,
    /// What is asked for; without it what the server's challenge or metadata says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The one issuer that is accepted; without it the first the server's metadata names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}
