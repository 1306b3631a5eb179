//! Which catalogues moved, for those who wait in numbers: a thousand clients of one server are told by one
//! channel, where events would look through a thousand subscribers for every call.

use std::sync::Arc;

use sessions::{UserId, WorkspaceId};
use tokio::sync::broadcast;
use transports::ServerName;

use crate::principal::Principal;

/// Moves a follower may fall behind by; one that lost some looks at everything.
const KEPT: usize = 256;

/// What a server offers changed, or the server itself.
#[derive(Debug)]
pub(crate) struct Moved {
    pub workspace: WorkspaceId,
    pub server: ServerName,
    /// To whom it is offered; `None` = everybody in the workspace.
    pub user: Option<UserId>,
}

impl Moved {
    /// Whether a principal may see another catalogue now.
    pub(crate) fn concerns(&self, who: &Principal) -> bool {
        self.workspace == who.workspace && self.user.as_ref().is_none_or(|user| *user == who.user)
    }
}

/// Tells what moved.
#[derive(Debug)]
pub(crate) struct Moves(broadcast::Sender<Arc<Moved>>);

impl Moves {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(KEPT).0)
    }

    /// Tells whoever follows; nobody need.
    pub(crate) fn tell(&self, moved: Moved) {
        let _ = self.0.send(Arc::new(moved));
    }

    /// What moves from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<Moved>> {
        self.0.subscribe()
    }
}
