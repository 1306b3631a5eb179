//! Under which names sessions want to hear of the progress of their tasks: told after the request that began the
//! task was answered.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;

use crate::mcp::session::Session;

/// Tokens kept; the limits of calls that run at once are lower. Of more tasks no progress is told.
const MAX_TOKENS: usize = 65_536;

/// Tokens by task, each with the session it belongs to. Memory only: a restart ends what runs here.
#[derive(Debug, Default)]
pub(in crate::mcp) struct Tokens(Mutex<HashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    session: String,
    token: Box<RawValue>,
}

impl Tokens {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one.
    pub(super) fn keep(&self, task: &str, session: &Session, token: Box<RawValue>) {
        let mut kept = self.kept();
        if kept.len() < MAX_TOKENS {
            let session = session.facts.id.clone();
            kept.insert(task.to_owned(), Kept { session, token });
        }
    }

    /// The one this session gave.
    pub(super) fn get(&self, task: &str, session: &Session) -> Option<Box<RawValue>> {
        let kept = self.kept();
        let of_session = kept.get(task)?;
        (of_session.session == session.facts.id).then(|| of_session.token.clone())
    }

    /// The task has ended.
    pub(super) fn forget(&self, task: &str) {
        self.kept().remove(task);
    }
}
