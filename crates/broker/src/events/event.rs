//! One event: its number, its time, what it is about and what it tells. It gets its JSON form only when somebody
//! needs it: most events of a busy bridge are read by nobody.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use sessions::{SessionId, UserId, WorkspaceId};

use super::EventKind;
use super::told::Told;
use crate::call::CallId;

/// What events are about and who may see them; all events of one call share one.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) workspace: WorkspaceId,
    /// Who may see it besides admins; `None` = everybody in the workspace.
    pub(super) user: Option<UserId>,
    pub(super) trace_id: Option<String>,
    pub(super) call: Option<CallId>,
    /// The agent that runs the call, or that came or went.
    pub(super) agent: Option<Arc<str>>,
    /// Set once it is known.
    pub(super) session: OnceLock<SessionId>,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Rises per workspace; 16 hex digits on the wire.
    pub id: u64,
    /// `tool_status`, `tool_log`, `tool_result`, `session_ready`, `catalog_changed`, …
    pub kind: EventKind,
    /// When.
    pub ts: DateTime<Utc>,
    pub(super) subject: Arc<Subject>,
    pub(super) told: Told,
    data: OnceLock<Arc<RawValue>>,
}

impl Event {
    #[expect(clippy::too_many_arguments, reason = "the fields of an event")]
    pub(super) fn new(
        id: u64,
        kind: EventKind,
        ts: DateTime<Utc>,
        subject: Arc<Subject>,
        told: Told,
    ) -> Self {
        Self {
            id,
            kind,
            ts,
            subject,
            told,
            data: OnceLock::new(),
        }
    }

    /// The type's own fields.
    #[must_use]
    pub fn data(&self) -> &RawValue {
        match &self.told {
            Told::Json(json) => json,
            told => self
                .data
                .get_or_init(|| told.to_json((self.subject.call, self.subject.agent.as_deref()))),
        }
    }

    /// Trace, if any.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.subject.trace_id.as_deref()
    }

    /// Session, if any.
    #[must_use]
    pub fn session_id(&self) -> Option<SessionId> {
        self.subject.session.get().copied()
    }

    /// Call, if any; its `data` tells it as `req_id` too.
    #[must_use]
    pub fn call_id(&self) -> Option<CallId> {
        self.subject.call
    }

    /// Agent, if any; the `data` of a call's events tells it as well.
    #[must_use]
    pub fn agent_id(&self) -> Option<&str> {
        self.subject.agent.as_deref()
    }

    /// Who may see it besides admins; `None` = everybody in the workspace.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.subject.user.as_ref()
    }

    /// As the store counts.
    pub(super) fn number(&self) -> i64 {
        i64::try_from(self.id).unwrap_or(i64::MAX)
    }

    /// About how much memory it holds.
    pub(super) fn weight_bytes(&self) -> usize {
        self.told.weight_bytes() + 256
    }
}

/// An event as it is sent.
#[derive(Serialize)]
struct Sent<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: EventKind,
    ts: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    data: &'a RawValue,
}

impl Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sent = Sent {
            id: format!("{:016x}", self.id),
            kind: self.kind,
            ts: self.ts.to_rfc3339_opts(SecondsFormat::Millis, true),
            trace_id: self.trace_id(),
            session_id: self.session_id().map(|id| id.to_string()),
            call_id: self.call_id().map(|id| id.to_string()),
            agent_id: self.agent_id(),
            data: self.data(),
        };
        sent.serialize(serializer)
    }
}
