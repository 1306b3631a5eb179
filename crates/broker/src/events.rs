//! Events of a workspace: numbered, kept, replayable, never silently gapped (rest.md § Events).

mod event;
mod hub;
mod kind;
mod line;
mod queue;
mod reading;
mod stream;
mod subscription;
mod told;
mod voice;

use serde_json::value::RawValue;
use sessions::{UserId, WorkspaceId};

pub use event::Event;
pub use hub::EventHub;
pub use kind::EventKind;
pub use reading::EventQuery;
pub(crate) use reading::Viewer;
pub use subscription::Subscription;
pub(crate) use told::Told;
pub(crate) use voice::Voice;

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
    /// Agent, if any.
    pub agent_id: Option<String>,
    /// The type's own fields.
    pub data: Box<RawValue>,
}

#[cfg(test)]
mod tests;
