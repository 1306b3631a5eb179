//! A server's definition as its owner writes it (config.md § servers), and its check.

use std::collections::BTreeMap;
use std::sync::Arc;

mod auth;
mod check;
mod names;
mod needs;
mod sandbox;
mod secrets;
mod tunnel;

use catalog::Hints;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sessions::{Isolation, Target, WorkspaceId};
use transports::tunnel::AgentId;
use transports::{OutboundPolicy, ServerName};

pub use self::auth::{Auth, OAuth};
pub(crate) use self::needs::{Need, Needs, OAuthNeed, is_secret_name};
pub use self::sandbox::{Network, SandboxWish};
pub(crate) use self::secrets::Learnt;
pub use self::secrets::{Redactions, Secrets};
use crate::agents::local::LocalServer;
use crate::error::PointerDetail;

/// The workspace that exists from the start.
pub const DEFAULT_WORKSPACE: &str = "default";

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
    /// HTTP: each caller's own access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// HTTP: private addresses are allowed. Only the admin's own file may set it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// tunnel: the caller's agent of this id. Without it the agent its lane means, else its only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// tunnel: the server's name in that agent's own file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// stdio: what the child may do. `basic` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxWish>,
    /// stdio: who keeps the child. `agent`: the bridge's own agent, whose children and calls outlive the bridge.
    #[serde(default, skip_serializing_if = "Runner::is_bridge")]
    pub runner: Runner,
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
    /// Tools `/mcp` lists directly, besides those that find all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always_expose: Vec<String>,
    /// The owner's word on tools whose server says nothing or the wrong thing: by tool name, `*` = all others.
    /// Only an admin may set it, since it decides which calls pass gates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hints: BTreeMap<String, HintOverride>,
    /// Which definitions of its tools are good without an approval. Only an admin may change it.
    #[serde(default, skip_serializing_if = "PinRule::is_default")]
    pub pins: PinRule,
}

/// Which definitions of tools are good without an approval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinRule {
    /// The first one that is seen; changes are quarantined.
    #[default]
    TrustFirstUse,
    /// None: every tool waits for an approval.
    Strict,
    /// All: nothing is pinned.
    Off,
}

impl PinRule {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes members by reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
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
    /// A server of the caller's own agent, which dials out to the bridge.
    Tunnel,
}

/// Who keeps the child of a stdio server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Runner {
    /// The bridge itself; children end with it.
    #[default]
    Bridge,
    /// The bridge's own agent, a process beside it.
    Agent,
}

impl Runner {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes members by reference"
    )]
    fn is_bridge(&self) -> bool {
        *self == Self::Bridge
    }
}

/// A plain value or a reference to a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// Literal text; refused in fields that look like secrets.
    Plain(String),
    /// `{secret: "env:NAME" | "file:/path" | "store:NAME", prefix?}`.
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

/// Who wrote a definition: it decides what it may say (rulings.md § Servers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The admin's own file: everything.
    File,
    /// An admin over the API: commands, secret references and hints, within the outbound policy.
    Admin,
    /// Anybody else who may add servers: URLs without references.
    Operator,
}

/// What a definition is held against.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// Who wrote it.
    pub author: Author,
    /// Reads references.
    pub secrets: &'a Secrets,
    /// Where it may lead.
    pub outbound: &'a OutboundPolicy,
}

/// A definition that passed the gate.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Where it leads.
    pub lead: Lead,
    /// The child the bridge's own agent is to run for it.
    pub child: Option<Arc<LocalServer>>,
    /// The values behind its references: taken out of every text the server causes.
    pub redactions: Redactions,
    /// What differs for each caller, where anything does.
    pub(crate) needs: Option<Arc<Needs>>,
}

/// Where a definition leads.
#[derive(Debug, Clone)]
pub enum Lead {
    /// To one server, the same for everybody.
    Server(Target),
    /// To a child of the bridge's own agent: the target says how the child is started.
    Local(Target),
    /// To each caller's own agent.
    Agents(AgentRoute),
}

/// A server of whoever calls.
#[derive(Debug, Clone)]
pub struct AgentRoute {
    /// The agent; `None`: whichever the caller's lane means.
    pub agent: Option<AgentId>,
    /// The server's name on the agent.
    pub server: String,
    /// Who shares a session: a user's lanes at most.
    pub isolation: Isolation,
    /// As [`Target::version`].
    pub version: u64,
}

impl Lead {
    /// As [`Target::version`].
    #[must_use]
    pub fn version(&self) -> u64 {
        match self {
            Self::Server(target) | Self::Local(target) => target.version,
            Self::Agents(route) => route.version,
        }
    }
}

impl Definition {
    /// Checks the whole and resolves its references into something `sessions` can open.
    ///
    /// # Errors
    /// [`DefinitionError`] with every complaint at once; pointers are into the definition.
    pub fn to_target(
        &self,
        name: &ServerName,
        version: u64,
        gate: &Gate<'_>,
    ) -> Result<Checked, DefinitionError> {
        check::run(self, name, version, gate)
    }

    /// The workspace it belongs to.
    ///
    /// # Errors
    /// [`DefinitionError`] when the name is no workspace id.
    pub fn workspace(&self) -> Result<WorkspaceId, DefinitionError> {
        WorkspaceId::new(self.workspace.as_deref().unwrap_or(DEFAULT_WORKSPACE)).map_err(|error| {
            DefinitionError {
                errors: vec![PointerDetail {
                    pointer: "/workspace".to_owned(),
                    detail: error.to_string(),
                }],
            }
        })
    }

    /// The definition of a server that a user's own agent offers.
    pub(crate) fn of_agent(agent: &AgentId, server: &str) -> Self {
        Self {
            transport: TransportKind::Tunnel,
            command: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            sandbox: None,
            url: None,
            headers: BTreeMap::new(),
            auth: None,
            allow_private: false,
            agent: Some(agent.to_string()),
            server: Some(server.to_owned()),
            runner: Runner::Bridge,
            isolation: Isolation::User,
            timeout_ms: None,
            era: transports::EraChoice::Auto,
            workspace: None,
            description: None,
            disabled: false,
            always_expose: Vec::new(),
            hints: BTreeMap::new(),
            pins: PinRule::default(),
        }
    }

    /// A tool's hints: the server's word, corrected by the owner's.
    #[must_use]
    pub fn corrected(&self, tool: &str, told: Hints) -> Hints {
        let Some(word) = self.hints.get(tool).or_else(|| self.hints.get("*")) else {
            return told;
        };
        Hints {
            read_only: word.read_only.unwrap_or(told.read_only),
            destructive: word.destructive.unwrap_or(told.destructive),
            idempotent: word.idempotent.unwrap_or(told.idempotent),
            open_world: word.open_world.unwrap_or(told.open_world),
        }
    }
}

#[cfg(test)]
mod tests;
