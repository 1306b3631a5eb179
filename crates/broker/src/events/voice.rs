//! The events of one call while it runs, so that whoever follows it needs neither the ring nor the store.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sessions::SessionId;

use super::event::{Event, Subject};
use crate::ledger::Intent;

/// Events of one call kept with it, by count and by size; a chattier call is followed from the ring and the
/// store. Thousands of calls may run at once, so this is small.
const KEPT_EVENTS: usize = 64;
const KEPT_BYTES: usize = 32 * 1024;

/// What one call tells.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(super) subject: Arc<Subject>,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    events: Vec<Arc<Event>>,
    bytes: usize,
    /// It said too much to be kept.
    overflowed: bool,
}

impl Voice {
    /// A call that has told nothing.
    pub(crate) fn of(intent: &Intent) -> Self {
        Self {
            subject: Arc::new(Subject {
                workspace: intent.workspace.clone(),
                user: Some(intent.user.clone()),
                trace_id: Some(intent.trace_id.clone()),
                call: Some(intent.id),
                agent: intent.agent_id.as_deref().map(Arc::from),
                session: OnceLock::new(),
            }),
            said: Mutex::default(),
        }
    }

    /// A call that told something in an earlier process: what it told is in the store.
    pub(crate) fn continued(intent: &Intent) -> Self {
        Self {
            said: Mutex::new(Said {
                overflowed: true,
                ..Said::default()
            }),
            ..Self::of(intent)
        }
    }

    /// It was given to a session: its events name it.
    pub(crate) fn on_session(&self, session: SessionId) {
        let _ = self.subject.session.set(session);
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, event: &Arc<Event>) {
        let mut said = self.said();
        if said.overflowed {
            return;
        }
        said.bytes += event.weight_bytes();
        said.events.push(Arc::clone(event));
        if said.events.len() > KEPT_EVENTS || said.bytes > KEPT_BYTES {
            *said = Said {
                overflowed: true,
                ..Said::default()
            };
        }
    }

    /// Everything it told so far; `None` when it was too much.
    pub(super) fn all(&self) -> Option<Vec<Arc<Event>>> {
        let said = self.said();
        (!said.overflowed).then(|| said.events.clone())
    }
}
