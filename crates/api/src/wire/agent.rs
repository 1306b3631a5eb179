//! Agents: programs that stand where the tools are and dial out to the bridge.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `POST /v1/agents/tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentTokenRequest {
    /// Which agent: `[A-Za-z0-9][A-Za-z0-9_-]{2,63}`; a new one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Revoke the token there is, and close the agent's connection.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub reset: bool,
    /// How long the token is good, in seconds; a year when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// An agent's token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentToken {
    /// Which agent it is good for.
    pub agent_id: String,
    /// The token.
    pub token: String,
    /// Its version; one version of an agent is good.
    pub version: u64,
    /// RFC 3339, UTC.
    pub expires_at: String,
    /// An earlier token is not good any more.
    pub reset: bool,
}

/// `POST /v1/agents/pair`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct PairRequest {
    /// Under which id; one is given when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// What people read when they confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A pairing that was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Pairing {
    /// For the person who confirms: `ABCD-2345`.
    pub code: String,
    /// For the agent, to ask with.
    pub poll_token: String,
    /// RFC 3339, UTC.
    pub expires_at: String,
}

/// `POST /v1/agents/pair/confirm`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct PairConfirm {
    /// As the agent shows it.
    pub code: String,
}

/// What was paired.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Paired {
    /// Which agent it is now.
    pub agent_id: String,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// `POST /v1/agents/pair/poll`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct PairPoll {
    /// From the beginning of the pairing.
    pub poll_token: String,
}

/// Where a pairing stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct PairStanding {
    /// `pending`, `approved` or `expired`.
    pub status: String,
    /// With `approved`: which agent it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// With `approved`: its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// With `approved`: where to dial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel_url: Option<String>,
}

/// `PUT /v1/agents/default`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct DefaultAgent {
    /// Which agent the lane means from now on.
    pub agent_id: String,
}

/// An agent as its owner sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Agent {
    /// Unique among its owner's.
    pub agent_id: String,
    /// Whose.
    pub user: String,
    /// Where its servers appear.
    pub workspace: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `online` or `offline`.
    pub status: String,
    /// RFC 3339: since when it is so, as far as this bridge saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The version of the one token that is good.
    pub token_version: u64,
    /// RFC 3339, UTC.
    pub token_expires_at: String,
    /// Rises with every connection.
    pub epoch: u64,
    /// Calls that have not ended.
    pub in_flight: usize,
    /// Bytes of progress and logging it lost, since the bridge started.
    pub dropped_bytes: u64,
    /// Frames of it that were refused, since the bridge started.
    pub bad_frames: u64,
    /// What it said of itself: `hostname`, `os`, `arch`, `pid`, `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub meta: Option<Box<RawValue>>,
    /// Its servers, under the names its owner calls them by.
    pub servers: Vec<String>,
    /// Lanes that mean it; the empty one is the default of all others.
    pub default_lanes: Vec<String>,
}

/// What an agent offers, as it last told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentTools {
    /// Which agent.
    pub agent_id: String,
    /// It is away: this is its last word.
    pub stale: bool,
    /// Rises with each change.
    pub generation: u64,
    /// Its servers.
    pub servers: Vec<AgentServer>,
}

/// One server of an agent, its own JSON untouched.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AgentServer {
    /// As the agent's own file names it.
    pub server: String,
    /// As its owner calls it: `<name>.<tool>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `modern` or `legacy`.
    pub era: String,
    /// Why the agent cannot reach it just now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Entries of its `tools/list`.
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<Object>))]
    pub tools: Vec<Box<RawValue>>,
    /// Entries of its `resources/list`.
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<Object>))]
    pub resources: Vec<Box<RawValue>>,
    /// Entries of its `resources/templates/list`.
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<Object>))]
    pub templates: Vec<Box<RawValue>>,
    /// Entries of its `prompts/list`.
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<Object>))]
    pub prompts: Vec<Box<RawValue>>,
}
