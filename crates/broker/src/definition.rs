//! A server's definition as its owner writes it (config.md § servers), and its check.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sessions::{Isolation, Target, WorkspaceId};
use transports::ServerName;

use crate::error::PointerDetail;

/// A definition as in the config file and `POST /v1/servers`. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// How it is reached.
    pub transport: TransportKind,
    /// stdio: program and arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// stdio: variables added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Value>,
    /// stdio: working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// HTTP: where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// HTTP: sent with every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Value>,
    /// HTTP: private addresses are allowed. Only the admin's own file may set it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// Who shares a session.
    #[serde(default)]
    #[schemars(with = "String")]
    pub isolation: Isolation,
    /// Default deadline of a call, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// `auto` (default), `modern` or `legacy`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub era: transports::EraChoice,
    /// Another workspace than `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// What people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Known to the catalogue but not reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// The owner's word on tools whose server says nothing or the wrong thing: by tool name, `*` = all others.
    /// Only an admin may set it, since it decides which calls pass gates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hints: BTreeMap<String, HintOverride>,
}

/// What the owner says of a tool instead of its server; what is left out stays the server's word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HintOverride {
    /// It changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// It may destroy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destructive: Option<bool>,
    /// Twice is the same as once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    /// It reaches beyond the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_world: Option<bool>,
}

/// The transports of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransportKind {
    /// A child process.
    Stdio,
    /// Streamable HTTP.
    StreamableHttp,
    /// HTTP+SSE of 2024-11-05.
    Sse,
}

/// A plain value or a reference to a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// Literal text; refused in fields that look like secrets.
    Plain(String),
    /// `{secret: "env:NAME" | "file:/path", prefix?}`.
    Secret {
        /// The reference.
        secret: String,
        /// Put before the secret, such as `Bearer `.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
    },
}

/// What is wrong with a definition.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the definition is not valid")]
pub struct DefinitionError {
    /// Each complaint, by place.
    pub errors: Vec<PointerDetail>,
}

/// Reads secret references.
#[derive(Debug, Clone, Default)]
pub struct Secrets {}

impl Definition {
    /// Checks the whole and resolves its references into something `sessions` can open.
    /// `from_file` is the admin's own file, which may set what others may not (rulings.md § Servers).
    ///
    /// # Errors
    /// [`DefinitionError`] with every complaint at once.
    pub fn to_target(
        &self,
        name: &ServerName,
        version: u64,
        secrets: &Secrets,
        from_file: bool,
    ) -> Result<Target, DefinitionError> {
        let _ = (name, version, secrets, from_file);
        todo!("broker operations")
    }

    /// The workspace it belongs to.
    ///
    /// # Errors
    /// [`DefinitionError`] when the name is no workspace id.
    pub fn workspace(&self) -> Result<WorkspaceId, DefinitionError> {
        todo!("broker operations")
    }
}
