//! Where a sealed value belongs. The seal is bound to it: a row moved elsewhere opens no more.

use sessions::{UserId, WorkspaceId};
use transports::ServerName;

/// What a sealed value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A value for a header or variable.
    Secret,
    /// Tokens of one user at one issuer.
    Grant,
    /// The bridge's registration at one issuer.
    Client,
    /// A sign-in under way.
    Flow,
}

impl Kind {
    /// As it stands in the store.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Grant => "grant",
            Self::Client => "client",
            Self::Flow => "flow",
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        [Self::Secret, Self::Grant, Self::Client, Self::Flow]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Whose credentials for which server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The server.
    pub server: ServerName,
    /// `None`: the whole workspace's.
    pub user: Option<UserId>,
}

impl Holder {
    /// The place of one of its values.
    #[must_use]
    pub fn at(&self, kind: Kind, field: impl Into<String>) -> Place {
        Place {
            holder: self.clone(),
            kind,
            field: field.into(),
        }
    }

    pub(crate) fn user_text(&self) -> &str {
        self.user.as_ref().map_or("", UserId::as_str)
    }
}

/// One sealed value's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Whose, for which server.
    pub holder: Holder,
    /// What it is.
    pub kind: Kind,
    /// The secret's name, the issuer, or the digest of a state.
    pub field: String,
}

impl Place {
    /// The additional data of the seal. Every part with its length before it, so that no two places are one text.
    pub(crate) fn bound_to(&self, version: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let parts = [
            self.holder.workspace.as_str(),
            self.holder.server.as_str(),
            self.holder.user_text(),
            self.kind.as_str(),
            &self.field,
        ];
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes
    }
}
