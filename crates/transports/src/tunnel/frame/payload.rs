//! What each type of frame says. Raw JSON of upstreams and callers stays as it came.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::spec::Era;
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::{Limits, META_TEXT_BYTES, PROTOCOL};

/// What an agent says of itself; untrusted text, read without control characters and up to
/// [`META_TEXT_BYTES`] each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentMeta {
    /// The machine's name.
    #[serde(deserialize_with = "short")]
    pub hostname: String,
    /// `linux`, `macos`, …
    #[serde(deserialize_with = "short")]
    pub os: String,
    /// `x86_64`, …
    #[serde(deserialize_with = "short")]
    pub arch: String,
    /// The agent's process id.
    pub pid: u32,
    /// The agent's version.
    #[serde(deserialize_with = "short")]
    pub version: String,
    /// What its owner calls it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "maybe_short"
    )]
    pub label: Option<String>,
    /// Names the spool, for as long as it lives. An agent of the same spool knows each call that it ever
    /// was given; one of another may not, and is not asked again to run what may have run.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "maybe_short"
    )]
    pub spool_id: Option<String>,
}

fn short<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let told = String::deserialize(from)?;
    let mut kept = String::new();
    for c in told.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > META_TEXT_BYTES {
            break;
        }
        kept.push(c);
    }
    Ok(kept)
}

fn maybe_short<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Short(#[serde(deserialize_with = "short")] String);
    Ok(Option::<Short>::deserialize(from)?.map(|text| text.0))
}

/// The revisions a side can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

impl Default for ProtocolRange {
    fn default() -> Self {
        Self {
            min: PROTOCOL,
            max: PROTOCOL,
        }
    }
}

/// The calls an agent still has: together every `req_id` it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResumeOffer {
    /// Still running.
    pub running: Vec<ReqId>,
    /// Finished, RESULT not acknowledged.
    pub results: Vec<ReqId>,
    /// More were finished than a list may hold; their RESULTs come all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// What becomes of the calls offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResumeAnswer {
    /// The bridge wants their RESULT.
    pub deliver: Vec<ReqId>,
    /// The bridge has settled them: as RESULT_ACK for each.
    pub forget: Vec<ReqId>,
    /// As CANCEL for each; their RESULT is wanted still.
    pub cancel: Vec<ReqId>,
}

/// HELLO, the first frame of an agent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Hello {
    /// Who it is.
    pub agent_meta: AgentMeta,
    /// What it still has.
    #[serde(default)]
    pub resume: ResumeOffer,
    /// What it speaks.
    #[serde(default)]
    pub protocol: ProtocolRange,
}

/// AUTH, the second frame of an agent.
#[derive(Debug, Clone, Deserialize)]
pub struct Auth {
    /// The agent's token.
    #[serde(deserialize_with = "secret")]
    pub token: SecretString,
    /// Names the machine; informative.
    #[serde(default)]
    pub device_fingerprint: Option<String>,
}

fn secret<'a, D: Deserializer<'a>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}

/// HELLO_ACK: the connection stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HelloAck {
    /// The connection's name, minted by the bridge. Every later frame of both sides carries it.
    pub conn_session_id: Arc<str>,
    /// Rises with every connection of this agent.
    pub epoch: u64,
    /// The bounds to keep.
    #[serde(default)]
    pub limits: Limits,
    /// What becomes of the calls offered.
    #[serde(default)]
    pub resume: ResumeAnswer,
}

/// Whether an agent knows what a server lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lists {
    /// The lists are the server's. Not written.
    #[default]
    Known,
    /// The server is in the agent's file and was not read since the agent's start: its lists are left out, and
    /// whoever has earlier ones keeps them.
    Unknown,
}

impl Lists {
    /// As [`Lists::Known`].
    #[must_use]
    pub fn are_known(&self) -> bool {
        *self == Self::Known
    }
}

/// One server of an agent, with its own JSON untouched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerTools {
    /// The server's name in the agent's file.
    pub server: String,
    /// The era the agent speaks with it.
    pub era: Era,
    /// Whether what follows is what it offers.
    #[serde(default, skip_serializing_if = "Lists::are_known")]
    pub lists: Lists,
    /// Entries of its `tools/list`.
    #[serde(default)]
    pub tools: Vec<Box<RawValue>>,
    /// Entries of its `resources/list`.
    #[serde(default)]
    pub resources: Vec<Box<RawValue>>,
    /// Entries of its `resources/templates/list`.
    #[serde(default)]
    pub templates: Vec<Box<RawValue>>,
    /// Entries of its `prompts/list`.
    #[serde(default)]
    pub prompts: Vec<Box<RawValue>>,
    /// Raw `capabilities` of its handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Box<RawValue>>,
    /// Raw `serverInfo` of its handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_info: Option<Box<RawValue>>,
    /// Its `instructions`; untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The revision agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Why it cannot be reached just now, in words; the lists are the last known then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// TOOLS: all that an agent offers. Replaces what it offered before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tools {
    /// Rises with each change.
    pub generation: u64,
    /// Its servers.
    pub servers: Vec<ServerTools>,
}

/// The requests that cross a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InvokeMethod {
    /// `tools/call`.
    #[serde(rename = "tools/call")]
    ToolsCall,
    /// `resources/read`.
    #[serde(rename = "resources/read")]
    ResourcesRead,
    /// `prompts/get`.
    #[serde(rename = "prompts/get")]
    PromptsGet,
    /// `completion/complete`.
    #[serde(rename = "completion/complete")]
    Complete,
}

impl InvokeMethod {
    /// The method as MCP writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToolsCall => "tools/call",
            Self::ResourcesRead => "resources/read",
            Self::PromptsGet => "prompts/get",
            Self::Complete => "completion/complete",
        }
    }

    /// The method of that name, if it crosses a tunnel.
    #[must_use]
    pub fn of(method: &str) -> Option<Self> {
        [
            Self::ToolsCall,
            Self::ResourcesRead,
            Self::PromptsGet,
            Self::Complete,
        ]
        .into_iter()
        .find(|known| known.as_str() == method)
    }
}

/// Whether CHUNKs are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// They are.
    pub enabled: bool,
}

/// INVOKE: run this once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invoke {
    /// The server's name in the agent's file.
    pub server: String,
    /// What is asked of it.
    pub method: InvokeMethod,
    /// Raw `params`, an object.
    pub params: Box<RawValue>,
    /// How long it may run, from when the agent gets it.
    pub timeout_ms: u64,
    /// The same as a time, in unix seconds, for people; clocks differ.
    #[serde(default)]
    pub deadline_ts: u64,
    /// Whether CHUNKs are wanted.
    #[serde(default)]
    pub stream: Stream,
    /// Calls of different keys share no connection to the server.
    #[serde(default)]
    pub isolation_key: String,
}

/// What a call already known is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownState {
    /// It runs.
    Running,
    /// It is over; its RESULT follows.
    Finished,
}

/// INVOKE_ACK: the agent has the call. Where it is not accepted, a RESULT `rejected` follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvokeAck {
    /// It will be run, or was.
    pub accepted: bool,
    /// The `req_id` was known and is not run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// What a known one is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KnownState>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a CHUNK comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Progress in words.
    Stdout,
    /// Logging.
    Stderr,
    /// The `params` of a progress notification, as JSON text.
    Progress,
}

impl Channel {
    /// The channel as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Progress => "progress",
        }
    }
}

/// CHUNK: what a running call tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it comes from.
    pub channel: Channel,
    /// The text, at most [`crate::tunnel::limits::CHUNK_FRAME_BYTES`].
    pub data: String,
    /// Bytes of this call lost since its last CHUNK.
    #[serde(default)]
    pub dropped_bytes: u64,
    /// Lines of this call lost since its last CHUNK.
    #[serde(default)]
    pub dropped_lines: u64,
}

/// Why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// It was cancelled.
    Canceled,
    /// Its deadline passed.
    Timeout,
    /// The agent lost it: it was restarted, or its result is no longer kept. It may have run.
    Disconnected,
    /// The server's process left.
    UpstreamExited,
    /// The server's answer was none, or an error of its own, which is in `details.rpc` then.
    ProtocolError,
    /// No such server, or a tool its owner does not offer.
    ToolNotFound,
    /// It was not run.
    Rejected,
}

/// What is said of a call without a result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// What happened.
    pub code: FailureCode,
    /// In words; untrusted.
    pub message: String,
    /// Raw details; a JSON-RPC error of the server as `{"rpc":{code, message, data}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<RawValue>>,
}

/// RESULT: the one end of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallResult {
    /// There is a result; a tool's own `isError` stays inside of it.
    pub ok: bool,
    /// The exit status of the server's process, when it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// It was cancelled.
    #[serde(default)]
    pub canceled: bool,
    /// The raw result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_json: Option<Box<RawValue>>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl CallResult {
    /// A raw result of the server.
    #[must_use]
    pub fn done(result: Box<RawValue>) -> Self {
        Self {
            ok: true,
            exit_code: None,
            canceled: false,
            result_json: Some(result),
            error: None,
        }
    }

    /// No result, and why.
    #[must_use]
    pub fn failed(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            ok: false,
            exit_code: None,
            canceled: code == FailureCode::Canceled,
            result_json: None,
            error: Some(Failure {
                code,
                message: message.into(),
                details: None,
            }),
        }
    }
}

/// CANCEL: the result is no longer wanted. A RESULT comes all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cancel {
    /// Why, in words.
    pub reason: String,
}

/// CANCEL_ACK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelAck {
    /// The server is told.
    pub will_cancel: bool,
    /// `already_finished` or `unknown_req_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
}

/// GOODBYE: what runs is finished, nothing new is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Goodbye {
    /// Why, in words.
    pub reason: String,
}

/// CONFIGURE: the servers a local agent is to run. Holds secrets, so it is taken from the Unix socket only.
#[derive(Clone, Serialize, Deserialize)]
pub struct Configure {
    /// Rises with each change.
    pub generation: u64,
    /// Raw definitions, in the words of the agent's own room.
    pub servers: Box<RawValue>,
}

impl fmt::Debug for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Configure {{ generation: {} }}", self.generation)
    }
}

/// A piece of a payload too large for one frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its number, from 1.
    pub part: u32,
    /// How many there are.
    pub parts: u32,
    /// The piece of the payload's JSON text.
    pub data: String,
}
