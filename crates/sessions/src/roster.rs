//! Which sessions there are: by key, by id, and counted against the caps. No I/O, no waiting.
//!
//! A session stands under its id until its process or socket is gone, so that the caps, the list and the drain
//! see it to its end; under its key only as long as new callers may have it.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::HashMap;
use transports::Endpoint;

use crate::entry::Entry;
use crate::key::{SessionId, SessionKey, UserId, WorkspaceId};
use crate::limits::SessionLimits;
use crate::registry::Target;

/// The sessions of a process. Kept under one lock.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    by_key: HashMap<SessionKey, Arc<Entry>>,
    by_id: HashMap<SessionId, Arc<Entry>>,
    per_user: HashMap<UserId, Tally>,
    per_workspace: HashMap<WorkspaceId, Tally>,
    /// Sessions of stdio servers, by workspace.
    children: HashMap<WorkspaceId, Tally>,
    /// Those that nobody uses any more and whose connection is being closed.
    parting: usize,
}

/// How many sessions one user or workspace has.
#[derive(Debug, Default)]
struct Tally {
    all: usize,
    parting: usize,
}

/// A cap that is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Full {
    pub(crate) limit: usize,
    pub(crate) whose: Whose,
    /// Whether a place will be free soon, without anybody being sent away.
    pub(crate) soon: bool,
}

/// Whose cap it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    User,
    Workspace,
    /// The workspace's, of children.
    Children,
    Bridge,
}

/// Whether a session is a process of its own.
pub(crate) fn is_child(target: &Target) -> bool {
    matches!(target.spec.endpoint, Endpoint::Stdio(_))
}

impl Roster {
    pub(crate) fn insert(&mut self, entry: &Arc<Entry>) {
        self.by_key.insert(entry.key.clone(), Arc::clone(entry));
        self.by_id.insert(entry.id, Arc::clone(entry));
        if let Some(user) = &entry.key.user {
            self.per_user.entry(user.clone()).or_default().all += 1;
        }
        let workspace = &entry.key.workspace;
        self.per_workspace.entry(workspace.clone()).or_default().all += 1;
        if is_child(&entry.target) {
            self.children.entry(workspace.clone()).or_default().all += 1;
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
        for tally in self.tallies(entry) {
            tally.parting += 1;
        }
    }

    /// It is gone, after [`Self::part`].
    pub(crate) fn remove(&mut self, entry: &Entry) {
        if self.by_id.remove(&entry.id).is_none() {
            return;
        }
        self.parting -= 1;
        for tally in self.tallies(entry) {
            tally.all -= 1;
            tally.parting -= 1;
        }
        if let Some(user) = &entry.key.user {
            drop_empty(&mut self.per_user, user);
        }
        drop_empty(&mut self.per_workspace, &entry.key.workspace);
        drop_empty(&mut self.children, &entry.key.workspace);
    }

    /// Everything a session is counted in.
    fn tallies(&mut self, entry: &Entry) -> impl Iterator<Item = &mut Tally> {
        let key = &entry.key;
        let user = key.user.as_ref();
        let children = is_child(&entry.target).then(|| self.children.get_mut(&key.workspace));
        let user = user.and_then(|user| self.per_user.get_mut(user));
        let workspace = self.per_workspace.get_mut(&key.workspace);
        user.into_iter().chain(workspace).chain(children.flatten())
    }

    /// The cap that keeps one more session out, if any; the narrowest first.
    pub(crate) fn full(
        &self,
        key: &SessionKey,
        child: bool,
        limits: &SessionLimits,
    ) -> Option<Full> {
        let workspace = &key.workspace;
        let user = key.user.as_ref();
        let children = child.then(|| self.children.get(workspace)).flatten();
        let caps = [
            (
                user.and_then(|user| self.per_user.get(user)),
                limits.max_per_user,
                Whose::User,
            ),
            (children, limits.max_children_per_workspace, Whose::Children),
            (
                self.per_workspace.get(workspace),
                limits.max_per_workspace,
                Whose::Workspace,
            ),
        ];
        for (tally, limit, whose) in caps {
            if let Some(tally) = tally.filter(|tally| tally.all >= limit) {
                let soon = tally.parting > 0;
                return Some(Full { limit, whose, soon });
            }
        }
        (self.by_id.len() >= limits.max).then_some(Full {
            limit: limits.max,
            whose: Whose::Bridge,
            soon: self.parting > 0,
        })
    }

    /// The least recently used session nobody uses, among those whose leaving makes room for this key.
    pub(crate) fn least_used(&self, key: &SessionKey, whose: Whose) -> Option<Arc<Entry>> {
        let mine = |entry: &&Arc<Entry>| match whose {
            Whose::User => entry.key.user == key.user,
            Whose::Workspace => entry.key.workspace == key.workspace,
            Whose::Children => entry.key.workspace == key.workspace && is_child(&entry.target),
            Whose::Bridge => true,
        };
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

fn drop_empty<K: Hash + Eq>(tallies: &mut HashMap<K, Tally>, key: &K) {
    if tallies.get(key).is_some_and(|tally| tally.all == 0) {
        tallies.remove(key);
    }
}
