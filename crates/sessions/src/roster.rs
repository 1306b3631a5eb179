//! Which sessions there are: by key, by id, and counted against the caps. No I/O, no waiting.
//!
//! A session stands under its id until its process or socket is gone, so that the caps, the list and the drain
//! see it to its end; under its key only as long as new callers may have it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::entry::Entry;
use crate::key::{SessionId, SessionKey, UserId};
use crate::limits::SessionLimits;

/// The sessions of a process. Kept under one lock.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    by_key: HashMap<SessionKey, Arc<Entry>>,
    by_id: HashMap<SessionId, Arc<Entry>>,
    per_user: HashMap<UserId, Tally>,
    /// Those that nobody uses any more and whose connection is being closed.
    parting: usize,
}

/// How many sessions one user has.
#[derive(Debug, Default)]
struct Tally {
    all: usize,
    parting: usize,
}

/// A cap that is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Full {
    pub(crate) limit: usize,
    /// Whether it is the user's own cap.
    pub(crate) own: bool,
    /// Whether a place will be free soon, without anybody being sent away.
    pub(crate) soon: bool,
}

impl Roster {
    pub(crate) fn insert(&mut self, entry: &Arc<Entry>) {
        self.by_key.insert(entry.key.clone(), Arc::clone(entry));
        self.by_id.insert(entry.id, Arc::clone(entry));
        if let Some(user) = &entry.key.user {
            self.per_user.entry(user.clone()).or_default().all += 1;
        }
    }

    /// From now on no new caller gets it; false when that was so already.
    pub(crate) fn leave(&mut self, entry: &Entry) -> bool {
        // A newer session may have the key by now.
        let current = |now: &Arc<Entry>| now.id == entry.id;
        if self.by_key.get(&entry.key).is_some_and(current) {
            self.by_key.remove(&entry.key);
        }
        !entry.leaving.swap(true, Ordering::SeqCst)
    }

    /// Its connection is going to be closed, whoever uses it.
    pub(crate) fn part(&mut self, entry: &Entry) {
        self.leave(entry);
        if !self.by_id.contains_key(&entry.id) || entry.parting.swap(true, Ordering::SeqCst) {
            return;
        }
        self.parting += 1;
        if let Some(tally) = self.tally(entry) {
            tally.parting += 1;
        }
    }

    /// It is gone, after [`Self::part`].
    pub(crate) fn remove(&mut self, entry: &Entry) {
        if self.by_id.remove(&entry.id).is_none() {
            return;
        }
        self.parting -= 1;
        let Some(tally) = self.tally(entry) else {
            return;
        };
        tally.all -= 1;
        tally.parting -= 1;
        if tally.all == 0
            && let Some(user) = &entry.key.user
        {
            self.per_user.remove(user);
        }
    }

    fn tally(&mut self, entry: &Entry) -> Option<&mut Tally> {
        self.per_user.get_mut(entry.key.user.as_ref()?)
    }

    /// The cap that keeps one more session of a user out, if any.
    pub(crate) fn full(&self, user: Option<&UserId>, limits: &SessionLimits) -> Option<Full> {
        let own = user.and_then(|user| self.per_user.get(user));
        if let Some(tally) = own.filter(|tally| tally.all >= limits.max_per_user) {
            return Some(Full {
                limit: limits.max_per_user,
                own: true,
                soon: tally.parting > 0,
            });
        }
        (self.by_id.len() >= limits.max).then_some(Full {
            limit: limits.max,
            own: false,
            soon: self.parting > 0,
        })
    }

    /// The least recently used session nobody uses, of one user or of all.
    pub(crate) fn least_used(&self, user: Option<&UserId>) -> Option<Arc<Entry>> {
        let mine = |entry: &&Arc<Entry>| user.is_none() || entry.key.user.as_ref() == user;
        self.by_key
            .values()
            .filter(mine)
            .filter(|entry| !entry.is_used() && !entry.is_kept())
            .max_by_key(|entry| entry.idle_for())
            .cloned()
    }

    pub(crate) fn at(&self, key: &SessionKey) -> Option<Arc<Entry>> {
        self.by_key.get(key).cloned()
    }

    pub(crate) fn find(&self, id: SessionId) -> Option<Arc<Entry>> {
        self.by_id.get(&id).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_id.values()
    }
}
