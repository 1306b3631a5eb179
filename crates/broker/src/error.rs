//! The closed list of errors (`docs/errors.md` is generated from it).

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use transports::Executed;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $title:literal, http $http:literal, exit $exit:literal, $retryable:literal;)*) => {
        /// Why an operation failed. Closed: a new member needs a row in `docs/errors.md`, a test and a sentence.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it stands on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// A stable title for people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// The row's numbers: HTTP status and CLI exit code. `api` alone turns them into a status.
            #[must_use]
            pub fn row(self) -> (u16, u8) {
                match self { $(Self::$variant => ($http, $exit),)* }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// Reads a code from the wire.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

error_codes! {
    /// Malformed JSON, unknown field, bad header.
    InvalidRequest, "invalid_request", "The request is malformed", http 400, exit 2, false;
    /// No, wrong, expired or revoked credential.
    Unauthenticated, "unauthenticated", "Credentials are missing or wrong", http 401, exit 3, false;
    /// The principal may not do this at all.
    Forbidden, "forbidden", "Not allowed", http 403, exit 7, false;
    /// A policy rule says no.
    PolicyDenied, "policy_denied", "Policy denies this call", http 403, exit 7, false;
    /// Unknown, hidden or another principal's server.
    ServerNotFound, "server_not_found", "No such server", http 404, exit 6, false;
    /// Unknown, hidden or another principal's tool.
    ToolNotFound, "tool_not_found", "No such tool", http 404, exit 6, false;
    /// Unknown or hidden resource, and unknown paths.
    ResourceNotFound, "resource_not_found", "No such resource", http 404, exit 6, false;
    /// Unknown or hidden prompt.
    PromptNotFound, "prompt_not_found", "No such prompt", http 404, exit 6, false;
    /// Unknown or another principal's session.
    SessionNotFound, "session_not_found", "No such session", http 404, exit 6, false;
    /// Unknown or another principal's call.
    CallNotFound, "call_not_found", "No such call", http 404, exit 6, false;
    /// Unknown or another principal's agent.
    AgentNotFound, "agent_not_found", "No such agent", http 404, exit 6, false;
    /// The caller's `schema_hash` is stale.
    SchemaChanged, "schema_changed", "The tool's definition changed", http 409, exit 10, false;
    /// The definition differs from the approved pin.
    ToolQuarantined, "tool_quarantined", "The tool is quarantined", http 409, exit 10, false;
    /// The same idempotency key is running.
    InProgress, "in_progress", "The same call is still running", http 409, exit 10, false;
    /// The state of the thing does not allow this.
    Conflict, "conflict", "Conflicts with the present state", http 409, exit 10, false;
    /// `If-Match` names another version.
    VersionConflict, "version_conflict", "Another version is current", http 412, exit 10, false;
    /// The body is over the limit.
    PayloadTooLarge, "payload_too_large", "The request is too large", http 413, exit 2, false;
    /// The arguments do not match the tool's schema.
    InvalidArguments, "invalid_arguments", "Arguments do not match the tool schema", http 422, exit 2, false;
    /// The same idempotency key came with another body.
    IdempotencyMismatch, "idempotency_mismatch", "The idempotency key was used with another request", http 422, exit 2, false;
    /// The tool's schema is over the bounds.
    UnsupportedSchema, "unsupported_schema", "The tool's schema is not supported", http 422, exit 2, false;
    /// A person must approve first.
    ConfirmationRequired, "confirmation_required", "Confirmation is required", http 428, exit 7, true;
    /// The token is used, expired or for another request.
    ConfirmationInvalid, "confirmation_invalid", "The confirmation is not valid", http 403, exit 7, false;
    /// Too many requests.
    RateLimited, "rate_limited", "Too many requests", http 429, exit 9, true;
    /// A quota is used up.
    QuotaExceeded, "quota_exceeded", "A quota is used up", http 429, exit 9, true;
    /// Cancelled by the caller.
    Cancelled, "cancelled", "The call was cancelled", http 409, exit 130, false;
    /// A fault of the bridge.
    Internal, "internal", "Internal error", http 500, exit 1, false;
    /// The upstream broke the protocol.
    UpstreamProtocolError, "upstream_protocol_error", "The server broke the protocol", http 502, exit 4, false;
    /// The upstream's process left.
    UpstreamExited, "upstream_exited", "The server's process exited", http 502, exit 4, false;
    /// The result is over the limit.
    ResultTooLarge, "result_too_large", "The result is too large", http 502, exit 4, false;
    /// The upstream cannot be reached.
    UpstreamUnreachable, "upstream_unreachable", "The server cannot be reached", http 502, exit 4, true;
    /// The agent is not connected.
    AgentOffline, "agent_offline", "The agent is offline", http 502, exit 4, true;
    /// The breaker is open.
    CircuitOpen, "circuit_open", "The server failed too often", http 503, exit 9, true;
    /// A bounded queue is full.
    Overloaded, "overloaded", "The bridge is overloaded", http 503, exit 9, true;
    /// The bridge is shutting down.
    ShuttingDown, "shutting_down", "The bridge is shutting down", http 503, exit 9, true;
    /// The store cannot be written.
    StoreUnavailable, "store_unavailable", "The store is unavailable", http 503, exit 9, true;
    /// The owning node cannot be reached.
    NodeUnreachable, "node_unreachable", "The owning node is unreachable", http 503, exit 9, true;
    /// The upstream asks for credentials.
    UpstreamNeedsAuth, "upstream_needs_auth", "The server needs authorization", http 502, exit 3, false;
    /// The deadline passed.
    UpstreamTimeout, "upstream_timeout", "The server did not answer in time", http 504, exit 8, false;
    /// Whether the effect happened is not known.
    OutcomeUnknown, "outcome_unknown", "The outcome is unknown", http 504, exit 8, false;
}

/// One complaint about one place of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointerDetail {
    /// JSON pointer into the request body, such as `/arguments/b`.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// A failed operation, with what the next try needs.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The code.
    pub code: ErrorCode,
    /// What happened, without secrets, paths of the machine or another principal's data.
    pub detail: String,
    /// May the effect have happened? `None` = not at all reached, i.e. `no`.
    pub executed: ExecutedWire,
    /// What to do next: the signature, a did-you-mean, a command.
    pub hint: Option<String>,
    /// Complaints by place.
    pub errors: Vec<PointerDetail>,
    /// The upstream and its JSON-RPC code.
    pub upstream: Option<(String, Option<i64>)>,
    /// The JSON-RPC error the upstream answered, untouched, for faces that pass it on. Its words are untrusted.
    pub rpc: Option<Arc<UpstreamRpc>>,
    /// The call, when one was accepted.
    pub call_id: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Where a person does what is needed, in a browser.
    pub link: Option<String>,
    /// How the upstream asked for credentials.
    pub(crate) challenge: Option<String>,
    /// The approval to be decided (428), ready for the body.
    pub approval: Option<serde_json::Value>,
}

/// A JSON-RPC error as the upstream wrote it.
#[derive(Debug, Clone)]
pub struct UpstreamRpc {
    /// The code.
    pub code: i64,
    /// The message.
    pub message: String,
    /// Raw `data`.
    pub data: Option<Box<RawValue>>,
}

/// `executed` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutedWire {
    /// No effect happened.
    No,
    /// The effect happened.
    Yes,
    /// It may have happened.
    Unknown,
}

impl From<Executed> for ExecutedWire {
    fn from(executed: Executed) -> Self {
        match executed {
            Executed::No => Self::No,
            Executed::Unknown => Self::Unknown,
        }
    }
}

/// What every operation fails with. Boxed: it is large and rare.
pub type BrokerError = Box<Fault>;

impl Fault {
    /// A fault that surely had no effect.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> BrokerError {
        Box::new(Self {
            code,
            detail: detail.into(),
            executed: ExecutedWire::No,
            hint: None,
            errors: Vec::new(),
            upstream: None,
            rpc: None,
            call_id: None,
            retry_after: None,
            link: None,
            challenge: None,
            approval: None,
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl std::error::Error for Fault {}
