//! The words of the ledger: what is known of a call before, while and after it ran.

use std::time::Duration;

use catalog::Hash;
use chrono::{DateTime, TimeDelta, Utc};
use sessions::{Lane, SessionId, UserId, WorkspaceId};
use transports::ServerName;

use crate::call::CallId;
use crate::call_state::CallState;
use crate::error::ErrorCode;

/// What a row of the ledger is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// `tools/call`.
    Tool,
    /// `resources/read`.
    Resource,
    /// `prompts/get`.
    Prompt,
    /// `completion/complete`.
    Completion,
    /// `tasks/*`.
    Task,
}

impl CallKind {
    /// As in the store and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
            Self::Completion => "completion",
            Self::Task => "task",
        }
    }

    /// As the action of an audit entry.
    pub(crate) fn audited(self) -> &'static str {
        match self {
            Self::Tool => "call_tool",
            Self::Resource => "call_resource",
            Self::Prompt => "call_prompt",
            Self::Completion => "call_completion",
            Self::Task => "call_task",
        }
    }

    /// Reads a kind by name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Tool,
            Self::Resource,
            Self::Prompt,
            Self::Completion,
            Self::Task,
        ];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What is known of a call before it is sent.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Its id.
    pub id: CallId,
    /// Where.
    pub workspace: WorkspaceId,
    /// Who.
    pub user: UserId,
    /// By which key.
    pub key_id: String,
    /// About what.
    pub kind: CallKind,
    /// `server.tool`, or the server and URI.
    pub reference: String,
    /// The run or conversation.
    pub lane: Lane,
    /// The trace.
    pub trace_id: String,
    /// SHA-256 of the canonical arguments.
    pub arguments_digest: [u8; 32],
    /// Names and types of the arguments, no values.
    pub preview: String,
    /// The definition it was checked against.
    pub schema_hash: Option<Hash>,
    /// The caller's key.
    pub idempotency_key: Option<String>,
    /// Over ref, lane and arguments: what a repeat must equal.
    pub request_digest: [u8; 32],
    /// After the owner's overrides.
    pub read_only: bool,
    /// It runs on without its caller.
    pub detached: bool,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// The agent that runs it; `@local` is the bridge's own.
    pub agent_id: Option<String>,
    /// When an agent gives it up; set where there is one.
    pub deadline_at: Option<DateTime<Utc>>,
    /// The approval a person gave for it.
    pub approval_id: Option<String>,
}

impl Intent {
    /// Through the agent that will run it, if one does; until then it has so long.
    #[must_use]
    pub(crate) fn through(self, agent_id: Option<String>, timeout: Duration) -> Self {
        let after = TimeDelta::from_std(timeout).unwrap_or(TimeDelta::MAX);
        let deadline = Utc::now().checked_add_signed(after);
        Self {
            deadline_at: deadline.filter(|_| agent_id.is_some()),
            agent_id,
            ..self
        }
    }

    /// Whether the intent is committed before anything is sent, and the result kept: everything that may act,
    /// that can be repeated by key, or that nobody waits for.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !self.read_only || self.idempotency_key.is_some() || self.detached
    }
}

/// A row as read back.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was meant.
    pub intent: Intent,
    /// Where it stands.
    pub state: CallState,
    /// The session it ran on.
    pub session_id: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// From accepted to ended.
    pub duration_ms: Option<u64>,
    /// The raw result, where it was kept.
    pub result: Option<String>,
    /// The fault, as the JSON of a kept fault.
    pub fault: Option<String>,
}

/// How a call ended, as the store keeps it.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The call.
    pub id: CallId,
    /// Where.
    pub workspace: WorkspaceId,
    /// Its terminal state.
    pub state: CallState,
    /// The session it ran on.
    pub session_id: Option<SessionId>,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// From accepted to ended.
    pub duration_ms: u64,
    /// The code of a fault, for finding.
    pub code: Option<&'static str>,
    /// The raw result, where it is kept.
    pub result: Option<String>,
    /// The fault, as the JSON of a kept fault.
    pub fault: Option<String>,
    /// The idempotency key it does not use up.
    pub frees_key: Option<HeldKey>,
}

/// An idempotency key that a call of this workspace holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    /// Whose.
    pub user: UserId,
    /// For which tool.
    pub reference: String,
    /// The key.
    pub key: String,
}

impl Settled {
    /// The end of a call whose process is gone: nobody knows how it went.
    pub(crate) fn unknown(intent: &Intent, now: DateTime<Utc>) -> Self {
        let since = (now - intent.created_at).num_milliseconds();
        Self {
            id: intent.id,
            workspace: intent.workspace.clone(),
            state: CallState::OutcomeUnknown,
            session_id: None,
            ended_at: now,
            duration_ms: u64::try_from(since).unwrap_or(0),
            code: Some(ErrorCode::OutcomeUnknown.as_str()),
            result: None,
            fault: None,
            frees_key: None,
        }
    }
}

/// Calls of tools that run on without their callers, who ask after them later.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    /// Only of this server's tools.
    pub server: Option<ServerName>,
}

impl Tasks {
    /// How the refs of a server's tools begin.
    pub(crate) fn prefix(&self) -> Option<String> {
        self.server.as_ref().map(|server| format!("{server}."))
    }

    /// Whether a call is one of them.
    pub(crate) fn have(&self, intent: &Intent) -> bool {
        intent.detached
            && intent.kind == CallKind::Tool
            && (self.prefix()).is_none_or(|prefix| intent.reference.starts_with(&prefix))
    }
}

/// Which rows are wanted; newest first.
#[derive(Debug, Clone)]
pub struct RowFilter {
    /// Only of this workspace.
    pub workspace: WorkspaceId,
    /// Only of this user; `None` = all.
    pub user: Option<UserId>,
    /// Only in this state.
    pub state: Option<CallState>,
    /// Only of this ref.
    pub reference: Option<String>,
    /// Only accepted at or after.
    pub since: Option<DateTime<Utc>>,
    /// Only with this key.
    pub idempotency_key: Option<String>,
    /// Only of this trace.
    pub trace_id: Option<String>,
    /// Only tasks.
    pub tasks: Option<Tasks>,
    /// Only older than this id.
    pub before: Option<CallId>,
    /// At most so many.
    pub limit: usize,
}
