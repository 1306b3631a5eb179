//! How many calls may be in flight, for each user and in all. Memory only; a permit gives its place back when dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sessions::UserId;

use crate::error::{BrokerError, ErrorCode, Fault};

/// The counters.
#[derive(Debug)]
pub(crate) struct Gate {
    per_user: usize,
    in_all: usize,
    counts: Mutex<Counts>,
    gauge: metrics::Gauge,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    users: HashMap<UserId, usize>,
    closed: bool,
}

/// One place in flight.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    user: UserId,
}

impl Gate {
    pub(crate) fn new(per_user: usize, in_all: usize, gauge: metrics::Gauge) -> Arc<Self> {
        Arc::new(Self {
            per_user,
            in_all,
            counts: Mutex::default(),
            gauge,
        })
    }

    /// Takes a place; refused when the user's or all places are taken, or after [`Gate::close`].
    pub(crate) fn enter(self: &Arc<Self>, user: &UserId) -> Result<Permit, BrokerError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.closed {
            let detail = "the bridge is shutting down; nothing was sent";
            return Err(busy(ErrorCode::ShuttingDown, detail));
        }
        if counts.all >= self.in_all {
            return Err(busy(ErrorCode::Overloaded, "too many calls are in flight"));
        }
        let own = counts.users.get(user).copied().unwrap_or(0);
        if own >= self.per_user {
            let detail = format!("{own} calls of this user are in flight already");
            return Err(busy(ErrorCode::RateLimited, detail));
        }
        counts.all += 1;
        counts.users.insert(user.clone(), own + 1);
        self.gauge.increment(1.0);
        Ok(Permit {
            gate: Arc::clone(self),
            user: user.clone(),
        })
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
    }

    /// Whether [`Gate::close`] was said.
    pub(crate) fn is_closed(&self) -> bool {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed
    }

    /// Places taken now.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .all
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self
            .gate
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(own) = counts.users.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                counts.users.remove(&self.user);
            }
        }
        self.gate.gauge.decrement(1.0);
    }
}

fn busy(code: ErrorCode, detail: impl Into<String>) -> BrokerError {
    let mut fault = Fault::new(code, detail);
    fault.retry_after = Some(Duration::from_secs(1));
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_users_calls_do_not_take_the_places_of_others() {
        let gate = Gate::new(2, 3, metrics::Gauge::noop());
        let (ann, bob, cem) = ("ann", "bob", "cem");
        let user = |name| UserId::new(name).unwrap();
        let first = gate.enter(&user(ann)).unwrap();
        let second = gate.enter(&user(ann)).unwrap();
        assert_eq!(
            gate.enter(&user(ann)).unwrap_err().code,
            ErrorCode::RateLimited
        );
        let third = gate.enter(&user(bob)).unwrap();
        assert_eq!(
            gate.enter(&user(cem)).unwrap_err().code,
            ErrorCode::Overloaded
        );
        drop((first, second, third));
        assert_eq!(gate.in_flight(), 0);
        assert!(gate.counts.lock().unwrap().users.is_empty());
        gate.close();
        assert_eq!(
            gate.enter(&user(ann)).unwrap_err().code,
            ErrorCode::ShuttingDown
        );
    }
}
