//! Runs an accepted call: one exchange with the upstream, then exactly one terminal state, whatever happens to
//! whoever waits for it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use sessions::Caller;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use transports::Params;
use transports::tunnel::bridge::Agent;

use super::exchange::exchange;
use super::follow::CallRun;
use super::live::{Live, Stop};
use super::outcome::Ended;
use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::gate::Permit;
use crate::ledger::{Intent, Written};
use crate::operations::Inner;
use crate::operations::calls::{CallDone, PendingCall, ToolResult};
use crate::operations::relay::{ClientSide, ServerTasks};
use crate::registry::Server;
use crate::trace::Trace;
use crate::upstream_fault::Exchange;

/// Everything one exchange needs.
#[derive(Debug)]
pub(crate) struct Job {
    pub live: Arc<Live>,
    pub permit: Permit,
    pub server: Arc<Server>,
    pub caller: Caller,
    pub exchange: Exchange,
    pub repeatable: bool,
    pub method: Cow<'static, str>,
    pub params: Params,
    pub trace: Trace,
    pub deadline: Instant,
    pub timeout: Duration,
    /// What the caller's own MCP client can do; `None` for REST callers.
    pub client: Option<Box<ClientSide>>,
    /// Somebody learns of the server's questions while the call runs, and can answer them.
    pub attended: bool,
    /// The tool demands a task, and the caller knows none: an older server's is waited for here.
    pub drives_task: bool,
}

impl Job {
    /// Whether `input_required` is an answer to this caller.
    pub(super) fn takes_input_required(&self) -> bool {
        let client = self.client.as_ref();
        client.is_some_and(|client| client.takes_input_required)
    }

    /// Whether a task of 2026-07-28 is an answer to this caller.
    pub(super) fn follows_server_tasks(&self) -> bool {
        let client = self.client.as_ref();
        client.is_some_and(|client| client.follows == Some(ServerTasks::Extension))
    }
}

impl PendingCall {
    pub(crate) fn new(guard: Unsettled, job: Job) -> Self {
        Self {
            call_id: job.live.name.clone(),
            keyed: job.live.intent.idempotency_key.is_some(),
            running: Some(Box::new(Running { job, guard })),
        }
    }

    /// Lets it run by itself; answers its id.
    pub(crate) fn start(mut self) -> String {
        if let Some(running) = self.running.take() {
            running.detach();
        }
        std::mem::take(&mut self.call_id)
    }

    pub(crate) async fn finish(mut self) -> Result<CallDone, BrokerError> {
        let Some(running) = self.running.take() else {
            return Err(Fault::new(
                ErrorCode::Internal,
                "the call was started already",
            ));
        };
        let live = Arc::clone(&running.job.live);
        let ended = if self.keyed {
            running.detach();
            live.ended().await
        } else {
            // Ten KiB that would be copied at each layer above.
            Some(Box::pin(running.run()).await)
        };
        done(&live, ended)
    }

    /// Runs it step by step: progress and the server's questions are handed over as they come.
    #[must_use]
    pub fn follow(mut self) -> CallRun {
        CallRun::of(
            self.running.take().map(|running| *running),
            self.keyed,
            &self.call_id,
        )
    }
}

/// The end of a call, for its caller.
pub(super) fn done(live: &Live, ended: Option<Arc<Ended>>) -> Result<CallDone, BrokerError> {
    let Some(ended) = ended else {
        return Err(Fault::new(
            ErrorCode::Internal,
            "the call ended without an outcome",
        ));
    };
    match &ended.outcome {
        Ok(result) => Ok(CallDone {
            call_id: live.name.clone(),
            trace_id: live.intent.trace_id.clone(),
            result: Arc::clone(result),
            duration: ended.duration,
            replayed: false,
        }),
        Err(fault) => {
            let mut fault = Box::new((**fault).clone());
            fault.call_id = Some(live.name.clone());
            Err(fault)
        }
    }
}

/// A job and the promise that it will be settled.
#[derive(Debug)]
pub(crate) struct Running {
    job: Job,
    guard: Unsettled,
}

impl Running {
    /// Runs in a task that the broker owns and awaits.
    pub(super) fn detach(self) {
        let tasks = self.guard.inner.tasks.clone();
        tasks.spawn(self.run());
    }

    pub(super) fn live(&self) -> &Arc<Live> {
        &self.job.live
    }

    pub(super) fn tasks(&self) -> TaskTracker {
        self.guard.inner.tasks.clone()
    }

    /// Runs here; dropping the future cancels the call upstream and settles it `cancelled`.
    pub(super) async fn run(self) -> Arc<Ended> {
        let Self { job, guard } = self;
        let inner = Arc::clone(&guard.inner);
        let live = Arc::clone(&job.live);
        let outcome = tokio::select! {
            biased;
            outcome = exchange(&inner, job) => outcome,
            why = live.stopped() => {
                if why == Stop::ShuttingDown && live.outlives_the_bridge() {
                    return guard.leave();
                }
                Err(stopped(&live, why))
            }
        };
        guard.settle(outcome).await
    }
}

/// The fault of a call that was stopped from outside.
pub(super) fn stopped(live: &Live, why: Stop) -> BrokerError {
    let sent = live.was_sent();
    let mut fault = match (why, sent && !live.intent.read_only) {
        (Stop::Asked, _) => Fault::new(ErrorCode::Cancelled, "the call was cancelled"),
        (Stop::AgentGone, true) => {
            let detail = "the agent was deleted before the answer came";
            Fault::new(ErrorCode::OutcomeUnknown, detail)
        }
        (Stop::AgentGone, false) => Fault::new(ErrorCode::Cancelled, "the agent was deleted"),
        (Stop::ShuttingDown, true) => Fault::new(
            ErrorCode::OutcomeUnknown,
            "the bridge shut down before the answer came",
        ),
        (Stop::ShuttingDown, false) => Fault::new(
            ErrorCode::ShuttingDown,
            "the bridge shut down before the answer came",
        ),
    };
    if sent {
        fault.executed = ExecutedWire::Unknown;
    }
    fault
}

/// The promise that a call ends in exactly one terminal state: kept by [`Unsettled::settle`], or when dropped.
#[derive(Debug)]
pub(crate) struct Unsettled {
    inner: Arc<Inner>,
    live: Option<Arc<Live>>,
}

impl Unsettled {
    /// A call that lives from now on, and will be settled. `agent`: who runs it, where an agent does.
    pub(crate) fn begin(
        inner: &Arc<Inner>,
        intent: Intent,
        agent: Option<Agent>,
    ) -> (Self, Arc<Live>) {
        Self::of(inner, Live::new(intent, agent))
    }

    /// The same for a call that is there.
    pub(super) fn of(inner: &Arc<Inner>, live: Arc<Live>) -> (Self, Arc<Live>) {
        inner.live.insert(&live);
        let promise = Self {
            inner: Arc::clone(inner),
            live: Some(Arc::clone(&live)),
        };
        (promise, live)
    }

    /// It was not accepted after all: there is nothing to settle.
    pub(crate) fn release(mut self) {
        if let Some(live) = self.live.take() {
            self.inner.live.remove(live.id);
        }
    }

    /// The bridge goes and the call does not: it stays open in the ledger, and the next start attends it again.
    /// Whoever waits for it here is told so.
    pub(super) fn leave(mut self) -> Arc<Ended> {
        let mut fault = Fault::new(
            ErrorCode::ShuttingDown,
            "the bridge shuts down; the call goes on at its agent",
        );
        fault.executed = ExecutedWire::Unknown;
        fault.hint = Some("read it by its id once the bridge is back".to_owned());
        let mut ended = Ended::new(Err(fault), Duration::ZERO);
        if let Some(live) = self.live.take() {
            ended.state = live.state();
            let ended = Arc::new(ended);
            live.end(Arc::clone(&ended));
            self.inner.live.remove(live.id);
            return ended;
        }
        Arc::new(ended)
    }

    pub(super) async fn settle(mut self, outcome: Result<ToolResult, BrokerError>) -> Arc<Ended> {
        let Some(live) = self.live.take() else {
            let fault = Fault::new(ErrorCode::Internal, "the call was settled before");
            return Arc::new(Ended::new(Err(fault), Duration::ZERO));
        };
        let mut ended = Ended::new(outcome, live.since.elapsed());
        if ended.state == CallState::Failed && is_shutdown(&ended) {
            ended.state = CallState::Cancelled;
        }
        self.inner.settle(&live, ended).await
    }
}

fn is_shutdown(ended: &Ended) -> bool {
    matches!(&ended.outcome, Err(fault) if fault.code == ErrorCode::ShuttingDown)
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        let fault = stopped(&live, Stop::Asked);
        let ended = Ended::new(Err(fault), live.since.elapsed());
        if !live.is_stored() {
            self.inner.settle_now(&live, Arc::new(ended));
            return;
        }
        let inner = Arc::clone(&self.inner);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return; // No runtime is left: the sweep of the next start settles it.
        };
        let tasks = inner.tasks.clone();
        tasks.spawn_on(
            async move {
                inner.settle(&live, ended).await;
            },
            &runtime,
        );
    }
}

impl Inner {
    /// Writes the end of a call, tells it, and lets go of it.
    async fn settle(self: &Arc<Self>, live: &Arc<Live>, ended: Ended) -> Arc<Ended> {
        let ended = Arc::new(ended);
        if live.is_stored() {
            self.settle_stored(live, &ended).await;
        }
        self.settle_now(live, Arc::clone(&ended));
        ended
    }

    async fn settle_stored(self: &Arc<Self>, live: &Arc<Live>, ended: &Arc<Ended>) {
        let session = live.session();
        let settled = self.ledger.settle(&live.intent, ended, session).await;
        let Err(fault) = settled else {
            live.acknowledge();
            return;
        };
        // The effect happened and its caller gets the answer; the row follows when the store is back.
        tracing::error!(call.id = %live.id, error = %fault, "the end of a call could not be written; trying again");
        let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
        let (live, ended) = (Arc::clone(live), Arc::clone(ended));
        self.tasks.spawn(async move {
            tokio::select! {
                () = ledger.settle_later(&live.intent, &ended, session) => live.acknowledge(),
                () = stop.cancelled() => {}
            }
        });
    }

    /// The part of settling that never waits.
    fn settle_now(&self, live: &Arc<Live>, ended: Arc<Ended>) {
        if !live.is_stored() {
            let written = live.is_acknowledged().then(|| Written::new(live));
            let of = (&live.intent, live.session());
            self.ledger.record(of, &ended, written);
        }
        self.meters.ended(&ended);
        self.tell_ended(live, &ended);
        live.end(ended);
        if !live.is_stored() {
            self.recent.insert(live);
        }
        self.live.remove(live.id);
    }
}
