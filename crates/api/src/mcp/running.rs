//! A legacy request that runs, and what becomes of its call when the client is gone.

use std::collections::HashMap;
use std::sync::Arc;

use broker::{CallRun, Happening, InputAnswer};

use super::envelope::Id;
use super::session::Session;
use super::visit::Visit;

/// What a client without the ability is said to have answered.
pub(super) const CANNOT: (i64, &str) = (-32601, "the client cannot answer this");
/// What a client that left is said to have answered.
const LEFT: (i64, &str) = (-32603, "the client is gone");

/// Requests of one session at once; the broker bounds the user's calls more tightly.
const MAX_RUNNING: usize = 256;

/// The call that a request runs as.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    /// Its id.
    pub(super) id: String,
    /// Giving up the request cancels it.
    pub(super) cancels: bool,
}

/// The requests of a session that run.
#[derive(Debug, Default)]
pub(super) struct Requests(HashMap<Id, Runs>);

impl Requests {
    /// False when too many run, or one of this id does.
    pub(super) fn begin(&mut self, id: &Id, call: Runs) -> bool {
        let fits = self.0.len() < MAX_RUNNING && !self.0.contains_key(id);
        if fits {
            self.0.insert(id.clone(), call);
        }
        fits
    }

    /// It was answered.
    pub(super) fn end(&mut self, id: &Id) -> Option<Runs> {
        self.0.remove(id)
    }

    /// The call of a request.
    pub(super) fn call(&self, id: &Id) -> Option<Runs> {
        self.0.get(id).cloned()
    }

    /// The calls of all of them.
    pub(super) fn calls(&self) -> Vec<Runs> {
        self.0.values().cloned().collect()
    }
}

/// A legacy request that runs; finished when dropped.
#[derive(Debug)]
pub(super) struct Running {
    session: Arc<Session>,
    id: Id,
}

impl Running {
    /// Begins; `None` when too many run, or one of this id does.
    pub(super) fn begin(session: &Arc<Session>, id: &Id, call: Runs) -> Option<Self> {
        session.begin(id, call).then(|| Self {
            session: Arc::clone(session),
            id: id.clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.session.finish(&self.id);
    }
}

/// Lets a call run to its end without its client, which can still cancel it. Questions get an error.
pub(super) async fn run_to_its_end(
    visit: Arc<Visit>,
    call_id: String,
    (mut call, running): (CallRun, Running),
) {
    loop {
        match call.next().await {
            Happening::Ended(_) => break,
            Happening::Input(requests) => {
                let answers = requests
                    .into_iter()
                    .map(|request| (request.key, refused(LEFT)));
                let answers = answers.collect();
                // Answered or withdrawn meanwhile: nothing is left to say.
                let _ = visit
                    .app
                    .broker
                    .answer_input(&visit.asker, &call_id, answers);
            }
            Happening::Notice(_) | Happening::Withdrawn(_) | Happening::Beyond(_) => {}
        }
    }
    drop(running);
}

/// A question answered for the client, with an error.
pub(super) fn refused((code, message): (i64, &str)) -> InputAnswer {
    InputAnswer::Error {
        code,
        message: message.to_owned(),
    }
}
