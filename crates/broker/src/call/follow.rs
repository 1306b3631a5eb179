//! Follows one call step by step: its progress, its server's questions, its end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::dialogue::Happening;
use super::live::{Live, Stop};
use super::outcome::Ended;
use super::run::{Running, done};
use crate::error::{ErrorCode, Fault};
use crate::instant::rfc3339;

/// A call that is followed. Dropping it cancels the call upstream, unless the call runs by itself: it has an
/// idempotency key, was accepted `respond_async`, or was let go by [`CallRun::detach`].
pub struct CallRun {
    call_id: String,
    live: Option<Arc<Live>>,
    told: mpsc::Receiver<Happening>,
    run: Run,
    tasks: Option<TaskTracker>,
    ended: Option<Over>,
}

/// It is over; without an outcome only if the bridge is.
struct Over(Option<Arc<Ended>>);

enum Run {
    /// It runs while this is polled.
    Here(Pin<Box<dyn Future<Output = Arc<Ended>> + Send>>),
    /// A task of the broker runs it.
    Elsewhere,
}

impl fmt::Debug for CallRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallRun")
            .field("call_id", &self.call_id)
            .finish_non_exhaustive()
    }
}

impl CallRun {
    pub(super) fn of(running: Option<Running>, keyed: bool, call_id: &str) -> Self {
        let live = running.as_ref().map(|running| Arc::clone(running.live()));
        let told = live.as_ref().map(|live| live.dialogue.follow());
        let tasks = running.as_ref().map(Running::tasks);
        let run = match running {
            Some(running) if !keyed => Run::Here(Box::pin(running.run())),
            Some(running) => {
                running.detach();
                Run::Elsewhere
            }
            None => Run::Elsewhere,
        };
        Self {
            call_id: call_id.to_owned(),
            live,
            told: told.unwrap_or_else(|| mpsc::channel(1).1),
            run,
            tasks,
            ended: None,
        }
    }

    /// Follows a call that a task runs.
    pub(crate) fn attach(live: &Arc<Live>) -> Self {
        Self {
            call_id: live.name.clone(),
            live: Some(Arc::clone(live)),
            told: live.dialogue.follow(),
            run: Run::Elsewhere,
            tasks: None,
            ended: None,
        }
    }

    /// `call_…`.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// When it was accepted, as RFC 3339.
    #[must_use]
    pub fn created_at(&self) -> Option<String> {
        let live = self.live.as_ref();
        live.map(|live| rfc3339(live.intent.created_at))
    }

    /// What happens next; [`Happening::Ended`] is the last. Safe to drop and call again.
    pub async fn next(&mut self) -> Happening {
        if self.ended.is_none() {
            tokio::select! {
                biased;
                Some(told) = self.told.recv() => return told,
                ended = end_of(&mut self.run, self.live.as_ref()) => self.ended = Some(Over(ended)),
            }
        }
        // What was told before the end comes before the end.
        if let Ok(told) = self.told.try_recv() {
            return told;
        }
        let (Some(live), Some(Over(ended))) = (&self.live, &self.ended) else {
            let fault = Fault::new(ErrorCode::Internal, "the call was started already");
            return Happening::Ended(Err(fault));
        };
        Happening::Ended(done(live, ended.clone()))
    }

    /// Lets it run on by itself; it is followed again by its id.
    pub fn detach(self) {
        if let (Run::Here(run), Some(tasks), None) = (self.run, self.tasks, self.ended) {
            tasks.spawn(run);
        }
    }

    /// Asks the call to stop; its end still comes.
    pub fn cancel(&self) {
        if let Some(live) = &self.live {
            live.cancel(Stop::Asked);
        }
    }
}

async fn end_of(run: &mut Run, live: Option<&Arc<Live>>) -> Option<Arc<Ended>> {
    match run {
        Run::Here(run) => Some(run.await),
        Run::Elsewhere => live?.ended().await,
    }
}
