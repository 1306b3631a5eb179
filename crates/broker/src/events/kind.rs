//! The closed list of event types.

use serde::{Deserialize, Serialize};

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
    /// A server failed so often that nothing is sent to it for a while.
    CircuitOpened, "circuit_opened";
    /// It answered again.
    CircuitClosed, "circuit_closed";
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
