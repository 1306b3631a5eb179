//! A legacy request that runs, and what becomes of its call when the client is gone.

use std::sync::Arc;

use broker::{CallRun, Happening, InputAnswer};

use super::envelope::Id;
use super::session::Session;
use super::visit::Visit;

/// What a client without the ability is said to have answered.
pub(super) const CANNOT: (i64, &str) = (-32601, "the client cannot answer this");
/// What a client that left is said to have answered.
const LEFT: (i64, &str) = (-32603, "the client is gone");

/// A legacy request that runs; finished when dropped.
#[derive(Debug)]
pub(super) struct Running {
    session: Arc<Session>,
    id: Id,
}

impl Running {
    /// Begins; `None` when too many run, or one of this id does.
    pub(super) fn begin(session: &Arc<Session>, id: &Id, call_id: &str) -> Option<Self> {
        session.begin(id, call_id).then(|| Self {
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
