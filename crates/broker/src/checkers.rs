//! Places for work that blocks a thread: schemas that are compiled, large arguments that are checked.
//!
//! Few, so that a flood leaves threads for whatever else blocks; and shared fairly: no workspace takes the last one, and
//! its users take turns. Whoever sends much waits behind itself. Never looks at what is checked.

use std::sync::Arc;
use std::time::Duration;

use sessions::{UserId, WorkspaceId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{BrokerError, ErrorCode, Fault};
use crate::principal::Principal;

/// Places of everybody: one more than a workspace may take.
const PLACES: usize = 2;
/// Longest wait for a place.
const WAIT: Duration = Duration::from_secs(5);
/// Workspaces and users who are told apart; one that is forgotten while it waits may take a second place.
const MAX_KNOWN: u64 = 10_000;

/// Who takes turns. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Checkers {
    all: Arc<Semaphore>,
    workspaces: moka::sync::Cache<WorkspaceId, Arc<Semaphore>>,
    users: moka::sync::Cache<(WorkspaceId, UserId), Arc<Semaphore>>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _workspace: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

impl Checkers {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(PLACES)),
            workspaces: moka::sync::Cache::new(MAX_KNOWN),
            users: moka::sync::Cache::new(MAX_KNOWN),
        }
    }

    /// A place for this caller's work.
    ///
    /// # Errors
    /// `overloaded` when there is none in time.
    pub(crate) async fn place(&self, who: &Principal) -> Result<Place, BrokerError> {
        let one = || Arc::new(Semaphore::new(1));
        let key = (who.workspace.clone(), who.user.clone());
        let own = self.users.get_with(key, one);
        let workspace = self.workspaces.get_with(who.workspace.clone(), one);
        let all = Arc::clone(&self.all);
        let taken = async move {
            // The narrowest first: whoever waits for its own place stands in nobody's way.
            Some(Place {
                _own: own.acquire_owned().await.ok()?,
                _workspace: workspace.acquire_owned().await.ok()?,
                _common: all.acquire_owned().await.ok()?,
            })
        };
        if let Ok(Some(place)) = tokio::time::timeout(WAIT, taken).await {
            return Ok(place);
        }
        let detail = "too many large arguments are being checked";
        let mut fault = Fault::new(ErrorCode::Overloaded, detail);
        fault.retry_after = Some(WAIT);
        Err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_workspace_takes_the_last_place_and_its_users_take_turns() {
        let checkers = Checkers::new();
        let (ann, bob, eve) = (
            Principal::operator("one", "ann"),
            Principal::operator("one", "bob"),
            Principal::operator("two", "eve"),
        );
        let first = checkers.place(&ann).await.unwrap();
        // Ann waits for what she began, many times over; and Bob, who came later than all of that.
        let spawned = |who: &Principal| {
            let (checkers, who) = (checkers.clone(), who.clone());
            tokio::spawn(async move { checkers.place(&who).await })
        };
        let hers: Vec<_> = (0..3).map(|_| spawned(&ann)).collect();
        tokio::task::yield_now().await;
        let his = spawned(&bob);
        tokio::task::yield_now().await;
        assert!(!his.is_finished());
        // Another workspace finds a place at once, and one only.
        let hers_elsewhere = checkers.place(&eve).await.unwrap();
        let full = checkers.place(&eve).await.unwrap_err();
        assert_eq!(full.code, ErrorCode::Overloaded);
        assert_eq!(full.retry_after, Some(WAIT));
        drop(hers_elsewhere);
        for waited in hers {
            assert!(waited.await.unwrap().is_err(), "the wait is bounded");
        }
        assert!(his.await.unwrap().is_err());
        // Bob waits behind one of hers, not behind all of them.
        let (next, his) = (spawned(&ann), spawned(&bob));
        let last = spawned(&ann);
        drop(first);
        let next = next.await.unwrap().unwrap();
        drop(next);
        let his = his.await.unwrap().unwrap();
        tokio::task::yield_now().await;
        assert!(!last.is_finished(), "he was served before her second");
        drop(his);
        last.await.unwrap().unwrap();
    }
}
