//! Who a session belongs to.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use transports::tunnel::AgentId;
use transports::{Endpoint, ServerName};
use uuid::Uuid;

use crate::registry::Target;

/// Longest user, workspace or lane id, in bytes; long enough for an OIDC `sub`.
pub const MAX_ID_BYTES: usize = 255;

/// The text is no user, workspace or lane id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 255 printable characters without spaces")]
pub struct InvalidId;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, empty: $empty:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps an id.
            ///
            /// # Errors
            /// [`InvalidId`] when too long, empty, or with blanks or control characters.
            pub fn new(id: &str) -> Result<Self, InvalidId> {
                let printable = id.chars().all(|c| !c.is_control() && !c.is_whitespace());
                if printable && id.len() <= MAX_ID_BYTES && ($empty || !id.is_empty()) {
                    Ok(Self(Arc::from(id)))
                } else {
                    Err(InvalidId)
                }
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(id: String) -> Result<Self, Self::Error> {
                Self::new(&id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }
    };
}

text_id!(
    /// A user.
    UserId, empty: false
);
text_id!(
    /// A workspace.
    WorkspaceId, empty: false
);
text_id!(
    /// A run or conversation, named by the caller; empty by default.
    Lane, empty: true
);

impl Default for Lane {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

/// A session's id: `ses_` and a `UUIDv7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// A new id.
    #[must_use]
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }

    /// Reads `ses_<uuid>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text.strip_prefix("ses_")?).ok().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ses_{}", self.0)
    }
}

/// Who shares one session of a server. The server's owner decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// One session for the whole workspace.
    Shared,
    /// One session for each user.
    #[default]
    User,
    /// One session for each user and lane.
    Lane,
    /// A fresh session for every call, closed after it.
    Call,
}

/// Who asks, before the server's isolation is applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// The workspace the request stands in.
    pub workspace: WorkspaceId,
    /// The run or conversation.
    pub lane: Lane,
}

/// At most one live session exists per key (but for isolation `call`, where each has its own `call`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// `None` when the whole workspace shares the session.
    pub user: Option<UserId>,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The server.
    pub server: ServerName,
    /// `None` unless the isolation is `lane`.
    pub lane: Option<Lane>,
    /// Set for isolation `call`.
    pub call: Option<Uuid>,
    /// The agent it leads through: one name may lead to several of a user's agents.
    pub via: Option<AgentId>,
}

impl SessionKey {
    /// The key under which a caller's session with a target stands.
    #[must_use]
    pub fn of(caller: &Caller, target: &Target) -> Self {
        let via = match &target.spec.endpoint {
            Endpoint::Tunnel(tunnel) => Some(tunnel.agent.id().clone()),
            Endpoint::Stdio(_)
            | Endpoint::StreamableHttp(_)
            | Endpoint::LegacySse(_)
            | Endpoint::InProcess(_) => None,
        };
        Self {
            via,
            ..Self::named(caller, &target.spec.name, target.isolation)
        }
    }

    /// Applies a server's isolation to a caller.
    #[must_use]
    pub fn named(caller: &Caller, server: &ServerName, isolation: Isolation) -> Self {
        let own = isolation != Isolation::Shared;
        Self {
            user: own.then(|| caller.user.clone()),
            workspace: caller.workspace.clone(),
            server: server.clone(),
            lane: (isolation == Isolation::Lane).then(|| caller.lane.clone()),
            call: (isolation == Isolation::Call).then(Uuid::new_v4),
            via: None,
        }
    }

    /// The key as an agent is told it: calls of different keys share no connection to the server. It begins with the
    /// isolation; ids are in it as a digest only. The same session has the same key after a restart of the bridge.
    #[must_use]
    pub(crate) fn isolation_key(&self) -> String {
        let kind = match (&self.user, &self.lane, &self.call) {
            (_, _, Some(call)) => return format!("call:{}", call.simple()),
            (_, Some(_), None) => "lane",
            (Some(_), None, None) => "user",
            (None, None, None) => "shared",
        };
        let mut digest = Sha256::new();
        let user = self.user.as_ref().map_or("", UserId::as_str);
        let lane = self.lane.as_ref().map_or("", Lane::as_str);
        for part in [self.workspace.as_str(), self.server.as_str(), user, lane] {
            // No id holds a blank.
            digest.update(part);
            digest.update(b" ");
        }
        let digest = digest.finalize();
        format!("{kind}:{}", hex::encode(&digest[..16]))
    }
}
