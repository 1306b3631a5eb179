//! How sessions go: retired, evicted, closed, drained. Each closes in its own task and leaves the roster last.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio::time::{Instant, timeout_at};

use crate::entry::Entry;
use crate::inspect::{SessionNotice, StateName};
use crate::registry::Inner;
use crate::roster::Roster;
use crate::state::Event;

impl Inner {
    /// No new caller gets it; it closes at once or when its last lease is given back.
    pub(crate) fn retire_in(&self, roster: &mut Roster, entry: &Entry, reason: &str) {
        if !roster.leave(entry) {
            return;
        }
        if entry.is_used() {
            let mut cell = entry.cell();
            cell.since = SystemTime::now();
            cell.end = Some(reason.to_owned());
            self.announce(entry, &cell, Some(reason));
        } else {
            roster.part(entry);
            self.end_state(entry, reason);
        }
    }

    /// A lease is given back.
    pub(crate) fn release(&self, entry: &Entry) {
        entry.touch();
        if entry.in_flight.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        if entry.is_leaving() || entry.serves_one_call() {
            let mut roster = self.roster();
            // Somebody may have entered between the count and the lock.
            if !entry.is_used() {
                roster.part(entry);
                self.end_state(entry, "used up");
            }
        } else if entry.overdue.swap(false, Ordering::SeqCst) {
            entry.recheck.notify_one();
        }
        if self.draining.load(Ordering::SeqCst) {
            self.returned.notify_waiters();
        }
    }

    /// Closes a session whose time is over, unless somebody uses it; tells whether it goes.
    pub(crate) fn evict(&self, entry: &Entry) -> bool {
        let mut roster = self.roster();
        let left = entry.remaining(&self.limits);
        let over = !entry.is_used() && left.is_some_and(|left| left.is_zero());
        if over {
            self.retire_in(&mut roster, entry, "its time was over");
        }
        over
    }

    /// Ends a session whoever uses it. It is gone once its `gone` is cancelled.
    pub(crate) fn end(&self, entry: &Entry, reason: &str) {
        self.roster().part(entry);
        self.end_state(entry, reason);
    }

    fn end_state(&self, entry: &Entry, reason: &str) {
        let mut cell = entry.cell();
        // Whoever waited for it hears this, not an older failure.
        cell.last_failure = None;
        self.step(entry, &mut cell, (Event::Close, Some(reason)));
    }

    /// Its process or socket is gone: nothing is left to count.
    pub(crate) fn strike_out(&self, entry: &Entry) {
        self.roster().remove(entry);
        entry.gone.cancel();
        self.left.notify_waiters();
        let reason = entry.cell().end.clone();
        // Nobody watching is fine.
        let _ = self.notices.send(SessionNotice::State {
            id: entry.id,
            key: entry.key.clone(),
            state: StateName::Closed,
            reason,
        });
    }

    /// Refuses new callers, lets those inside finish until `deadline`, closes everything.
    pub(crate) async fn drain(&self, deadline: Instant) {
        {
            let _roster = self.roster();
            self.draining.store(true, Ordering::SeqCst);
        }
        self.left.notify_waiters();
        let finished = async {
            loop {
                let mut returned = pin!(self.returned.notified());
                returned.as_mut().enable();
                if !self.entries().iter().any(|entry| entry.is_used()) {
                    return;
                }
                returned.await;
            }
        };
        let _ = timeout_at(deadline, finished).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.roster().entries().cloned().collect()
    }
}
