//! An event as a line of a stored run.

use std::sync::{Arc, OnceLock};

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sessions::{SessionId, UserId, WorkspaceId};

use super::event::{Event, Subject};
use super::{EventKind, Told};
use crate::call::CallId;

#[derive(Serialize)]
struct Written<'a> {
    i: u64,
    k: EventKind,
    t: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<&'a UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<&'a str>,
    d: &'a RawValue,
}

#[derive(Deserialize)]
struct Read {
    i: u64,
    k: EventKind,
    t: i64,
    #[serde(default)]
    u: Option<UserId>,
    #[serde(default)]
    tr: Option<String>,
    #[serde(default)]
    s: Option<String>,
    #[serde(default)]
    c: Option<String>,
    #[serde(default)]
    a: Option<Arc<str>>,
    d: Box<RawValue>,
}

impl Event {
    /// Its line, with the line's end.
    pub(super) fn to_line(&self) -> Option<String> {
        let mut line = serde_json::to_string(&Written {
            i: self.id,
            k: self.kind,
            t: self.ts.timestamp_millis(),
            u: self.user(),
            tr: self.trace_id(),
            s: self.session_id().map(|id| id.to_string()),
            c: self.call_id().map(|id| id.to_string()),
            a: self.agent_id(),
            d: self.data(),
        })
        .ok()?;
        line.push('\n');
        Some(line)
    }

    /// Reads a line; `None` when it holds what this version does not know.
    pub(super) fn from_line(line: &str, workspace: &WorkspaceId) -> Option<Self> {
        let line: Read = serde_json::from_str(line).ok()?;
        let session = OnceLock::new();
        if let Some(id) = line.s.as_deref().and_then(SessionId::parse) {
            let _ = session.set(id);
        }
        let subject = Subject {
            workspace: workspace.clone(),
            user: line.u,
            trace_id: line.tr,
            call: line.c.as_deref().and_then(CallId::parse),
            agent: line.a,
            session,
        };
        let at = DateTime::from_timestamp_millis(line.t)?;
        Some(Self::new(
            line.i,
            line.k,
            at,
            Arc::new(subject),
            Told::json(line.d),
        ))
    }
}
