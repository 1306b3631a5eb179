//! Events of a workspace: numbered, kept, replayable, never silently gapped (rest.md § Events).

mod hub;
mod subscription;

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sessions::{UserId, WorkspaceId};

pub(crate) use hub::Viewer;
pub use hub::{EventHub, EventQuery};
pub use subscription::Subscription;

/// One event as stored and sent.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Rises per workspace; 16 hex digits on the wire.
    #[serde(serialize_with = "hex_id")]
    pub id: u64,
    /// `tool_status`, `tool_log`, `tool_result`, `session_ready`, `catalog_changed`, …
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When.
    #[serde(serialize_with = "rfc3339")]
    pub ts: DateTime<Utc>,
    /// Trace, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Session, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Call, if any; its `data` tells it as `req_id` too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The type's own fields.
    pub data: Arc<RawValue>,
    /// Who may see it besides admins; `None` = everybody in the workspace.
    #[serde(skip)]
    pub user: Option<UserId>,
    /// The workspace.
    #[serde(skip)]
    pub workspace: WorkspaceId,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn hex_id<S: serde::Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{id:016x}"))
}

fn rfc3339<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $variant:ident, $name:literal;)*) => {
        /// The closed list of event types.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum EventKind { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl EventKind {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Reads a type by name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
            }
        }
    };
}

event_kinds! {
    /// A call's state changed.
    ToolStatus, "tool_status";
    /// A call's progress or log.
    ToolLog, "tool_log";
    /// A call ended.
    ToolResult, "tool_result";
    /// A session begins to open.
    SessionOpened, "session_opened";
    /// A session is usable.
    SessionReady, "session_ready";
    /// A heartbeat went unanswered.
    SessionDegraded, "session_degraded";
    /// A connection was lost.
    SessionReconnecting, "session_reconnecting";
    /// A session ended.
    SessionClosed, "session_closed";
    /// What a server offers changed.
    CatalogChanged, "catalog_changed";
    /// Somebody must decide.
    ApprovalRequested, "approval_requested";
    /// Somebody decided.
    ApprovalDecided, "approval_decided";
    /// An agent connected.
    AgentOnline, "agent_online";
    /// An agent left.
    AgentOffline, "agent_offline";
    /// A server has a new version.
    ServerVersion, "server_version";
    /// The configuration file could not be applied.
    ConfigReloadFailed, "config_reload_failed";
    /// Events are missing here: read the present state anew.
    Resync, "resync";
}

/// One event to be numbered, kept and sent.
#[derive(Debug)]
pub struct NewEvent {
    /// Its type.
    pub kind: EventKind,
    /// Where.
    pub workspace: WorkspaceId,
    /// Who may see it besides admins; `None` = everybody in the workspace.
    pub user: Option<UserId>,
    /// Trace, if any.
    pub trace_id: Option<String>,
    /// Session, if any.
    pub session_id: Option<String>,
    /// Call, if any.
    pub call_id: Option<String>,
    /// The type's own fields.
    pub data: Box<RawValue>,
}

/// An event as a line of a stored run.
#[derive(Serialize, Deserialize)]
struct Line {
    i: u64,
    k: EventKind,
    t: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    d: Arc<RawValue>,
}

impl Event {
    fn to_line(&self) -> Option<String> {
        serde_json::to_string(&Line {
            i: self.id,
            k: self.kind,
            t: self.ts.timestamp_millis(),
            u: self.user.clone(),
            tr: self.trace_id.clone(),
            s: self.session_id.clone(),
            c: self.call_id.clone(),
            d: Arc::clone(&self.data),
        })
        .ok()
    }

    fn from_line(line: &str, workspace: &WorkspaceId) -> Option<Self> {
        let line: Line = serde_json::from_str(line).ok()?;
        Some(Self {
            id: line.i,
            kind: line.k,
            ts: DateTime::from_timestamp_millis(line.t)?,
            trace_id: line.tr,
            session_id: line.s,
            call_id: line.c,
            data: line.d,
            user: line.u,
            workspace: workspace.clone(),
        })
    }

    /// About how much memory it takes.
    fn weight_bytes(&self) -> usize {
        self.data.get().len() + 256
    }
}
