//! How a caller gets in: finds or makes the session, waits for a place and for the connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Instant, timeout_at};
use transports::ConnectError;

use crate::entry::{Cell, Entry, Link};
use crate::error::OpenError;
use crate::keeper;
use crate::key::{Caller, SessionKey};
use crate::registry::{Inner, Target};
use crate::roster::{Whose, is_child};
use crate::session::{Session, SessionLease};
use crate::state::{Event, State};

/// A caller counted in; counts him out again if he leaves before he has a lease.
pub(crate) struct Entered {
    inner: Arc<Inner>,
    entry: Arc<Entry>,
    /// His count has become the lease's.
    leased: bool,
}

impl Entered {
    /// The caller is counted in already.
    pub(crate) fn new(inner: &Arc<Inner>, entry: Arc<Entry>) -> Self {
        Self {
            inner: Arc::clone(inner),
            entry,
            leased: false,
        }
    }

    /// Waits until the session has a connection, starting what must be started.
    ///
    /// # Errors
    /// [`OpenError`]; never waits past `deadline`.
    pub(crate) async fn ready(mut self, deadline: Instant) -> Result<SessionLease, OpenError> {
        let mut changed = self.entry.changed.subscribe();
        let (started, mut waited) = (Instant::now(), false);
        loop {
            if let Some(outcome) = self.inner.look(&self.entry, waited) {
                let link = outcome?;
                self.leased = true;
                let entry = Arc::clone(&self.entry);
                let session = Session { entry, link };
                return Ok(SessionLease::new(session, Arc::clone(&self.inner)));
            }
            waited = true;
            if timeout_at(deadline, changed.changed()).await.is_err() {
                let after = started.elapsed();
                return Err(OpenError::Timeout { after });
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !self.leased {
            self.inner.release(&self.entry);
        }
    }
}

/// What an attempt to enter came to.
enum Attempt {
    In(Entered),
    /// All places are taken, but one will be free soon; who wants to know why not gets the error.
    Wait(OpenError),
}

impl Inner {
    /// Counts a caller in, waiting for a place when the cap is reached and somebody idle can be sent away.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        caller: &Caller,
        target: &Target,
        deadline: Instant,
    ) -> Result<Entered, OpenError> {
        if let Attempt::In(entered) = self.try_enter(caller, target, true)? {
            return Ok(entered);
        }
        loop {
            // Enabled before the look, so that nobody who leaves in between is missed.
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            let refusal = match self.try_enter(caller, target, false)? {
                Attempt::In(entered) => return Ok(entered),
                Attempt::Wait(refusal) => refusal,
            };
            if timeout_at(deadline, left).await.is_err() {
                return Err(refusal);
            }
        }
    }

    /// Finds or makes the session and counts the caller in, under one lock: from here on no eviction hits it.
    /// `eager`: sends somebody away even when another is leaving already, whose place others may wait for.
    fn try_enter(
        self: &Arc<Self>,
        caller: &Caller,
        target: &Target,
        eager: bool,
    ) -> Result<Attempt, OpenError> {
        let key = SessionKey::of(caller, target);
        let mut roster = self.roster();
        // Under the lock, so that nobody enters after `drain` has looked.
        if self.draining.load(Ordering::SeqCst) {
            return Err(OpenError::Draining);
        }
        if let Some(entry) = roster.at(&key) {
            // Whoever still holds an older definition gets the newer one's session; it is never replaced by an older.
            if entry.target.version >= target.version {
                entry.in_flight.fetch_add(1, Ordering::SeqCst);
                return Ok(Attempt::In(Entered::new(self, entry)));
            }
            self.retire_in(&mut roster, &entry, "replaced by a newer definition");
        }
        if let Some(full) = roster.full(&key, is_child(target), &self.limits) {
            let (limit, own) = (full.limit, full.whose != Whose::Bridge);
            let idle = (eager || !full.soon)
                .then(|| roster.least_used(&key, full.whose))
                .flatten();
            if let Some(idle) = &idle {
                self.retire_in(&mut roster, idle, "made room for another");
            }
            let refusal = OpenError::TooMany { limit, own };
            return if idle.is_some() || full.soon {
                Ok(Attempt::Wait(refusal))
            } else {
                Err(refusal)
            };
        }
        let entry = Arc::new(Entry::new(key, target.clone()));
        entry.in_flight.fetch_add(1, Ordering::SeqCst);
        roster.insert(&entry);
        self.announce(&entry, &entry.cell(), None);
        // Under the lock as well, or `drain` might wait for the tasks just before this one is there.
        let life = keeper::run(Arc::clone(self), Arc::clone(&entry));
        self.tasks.spawn(life);
        drop(roster);
        Ok(Attempt::In(Entered::new(self, entry)))
    }

    /// Lets a caller in, starts what must be started, or says why not; `None` = wait for a change.
    /// `waited`: this caller already waited for an attempt, so a failure is his answer.
    fn look(&self, entry: &Entry, waited: bool) -> Option<Result<Arc<Link>, OpenError>> {
        let mut cell = entry.cell();
        if matches!(cell.state, State::Backoff { .. }) {
            self.step(entry, &mut cell, (Event::Wanted, None));
        }
        match cell.state {
            State::Ready { .. } => cell.link.clone().map(Ok),
            State::Opening { .. } => None,
            State::Backoff { until, .. } if !waited => Some(Err(OpenError::BackingOff {
                retry_after: until.saturating_duration_since(Instant::now()),
                source: failure(&cell),
            })),
            State::Backoff { .. } | State::Closed => Some(Err(OpenError::Connect(failure(&cell)))),
        }
    }
}

/// Why there is no connection.
fn failure(cell: &Cell) -> Arc<ConnectError> {
    let lost = || {
        let words = cell.end.clone().or_else(|| cell.last_error.clone());
        let detail = words.unwrap_or_else(|| "the session was closed".to_owned());
        Arc::new(ConnectError::Unreachable { detail })
    };
    cell.last_failure.clone().unwrap_or_else(lost)
}
