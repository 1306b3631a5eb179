//! Runs an accepted call: one exchange with the upstream, then exactly one terminal state, whatever happens to
//! whoever waits for it.

use std::sync::Arc;
use std::time::Duration;

use sessions::Caller;
use tokio::sync::mpsc;
use tokio::time::Instant;
use transports::{Params, Request};

use super::live::{Live, Stop};
use super::outcome::Ended;
use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::gate::Permit;
use crate::ledger::Intent;
use crate::operations::Inner;
use crate::operations::calls::{CallDone, PendingCall, ToolResult};
use crate::registry::Server;
use crate::trace::Trace;
use crate::upstream_fault::{Exchange, Upstream};

/// Notifications of one call that wait to be told; more are counted by the transport and lost.
const PROGRESS_QUEUE: usize = 64;

/// Everything one exchange needs.
#[derive(Debug)]
pub(crate) struct Job {
    pub live: Arc<Live>,
    pub permit: Permit,
    pub server: Arc<Server>,
    pub caller: Caller,
    pub exchange: Exchange,
    pub repeatable: bool,
    pub method: &'static str,
    pub params: Params,
    pub trace: Trace,
    pub deadline: Instant,
    pub timeout: Duration,
}

impl PendingCall {
    pub(crate) fn new(guard: Unsettled, job: Job) -> Self {
        Self {
            call_id: job.live.name.clone(),
            keyed: job.live.intent.idempotency_key.is_some(),
            running: Some(Running { job, guard }),
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
            Some(running.run().await)
        };
        let Some(ended) = ended else {
            return Err(Fault::new(
                ErrorCode::Internal,
                "the call ended without an outcome",
            ));
        };
        match &ended.outcome {
            Ok(result) => Ok(CallDone {
                call_id: std::mem::take(&mut self.call_id),
                trace_id: live.intent.trace_id.clone(),
                result: Arc::clone(result),
                duration: ended.duration,
                replayed: false,
            }),
            Err(fault) => {
                let mut fault = Box::new((**fault).clone());
                fault.call_id = Some(std::mem::take(&mut self.call_id));
                Err(fault)
            }
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
    fn detach(self) {
        let tasks = self.guard.inner.tasks.clone();
        tasks.spawn(self.run());
    }

    /// Runs here; dropping the future cancels the call upstream and settles it `cancelled`.
    async fn run(self) -> Arc<Ended> {
        let Self { job, guard } = self;
        let inner = Arc::clone(&guard.inner);
        let live = Arc::clone(&job.live);
        let outcome = tokio::select! {
            biased;
            outcome = exchange(&inner, job) => outcome,
            why = live.stopped() => Err(stopped(&live, why)),
        };
        guard.settle(outcome).await
    }
}

/// The one exchange.
async fn exchange(inner: &Inner, job: Job) -> Result<ToolResult, BrokerError> {
    let upstream = Upstream {
        server: job.server.name.as_str(),
        redactions: job.server.redactions(),
    };
    let _in_flight = job.permit;
    let target = job.server.target()?;
    let lease = inner
        .sessions
        .acquire(&job.caller, target, job.deadline)
        .await;
    let lease = lease.map_err(|error| upstream.not_opened(&error))?;
    let left = job.deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(upstream.too_late_to_send());
    }
    job.live.dispatched(lease.id());
    inner.tell_sent(&job.live);
    let (progress, mut told) = mpsc::channel(PROGRESS_QUEUE);
    let request = Request {
        method: job.method.into(),
        params: job.params,
        meta: meta(&job.trace),
        timeout: left,
        progress: Some(progress),
        repeatable: job.repeatable,
    };
    let answer = {
        let mut answer = std::pin::pin!(lease.request(request));
        loop {
            tokio::select! {
                biased;
                Some(notification) = told.recv() => inner.tell_progress(&job.live, &job.server, &notification),
                answer = &mut answer => break answer,
            }
        }
    };
    while let Ok(notification) = told.try_recv() {
        inner.tell_progress(&job.live, &job.server, &notification);
    }
    let raw = answer.map_err(|error| match error {
        transports::RequestError::Timeout { .. } => upstream.timed_out(job.timeout, job.exchange),
        error => upstream.not_answered(&error, job.exchange),
    })?;
    ToolResult::read(raw, inner.calls.result_bytes).map_err(|mut fault| {
        fault.executed = ExecutedWire::Unknown;
        fault.upstream = Some((upstream.server.to_owned(), None));
        fault
    })
}

/// `traceparent`, so that the upstream's spans join ours.
fn meta(trace: &Trace) -> Params {
    let mut members = Vec::with_capacity(2);
    if let Ok(parent) = serde_json::value::to_raw_value(&trace.traceparent()) {
        members.push(("traceparent".into(), parent));
    }
    if let Some(Ok(state)) = trace.tracestate().map(serde_json::value::to_raw_value) {
        members.push(("tracestate".into(), state));
    }
    Params(members)
}

/// The fault of a call that was stopped from outside.
fn stopped(live: &Live, why: Stop) -> BrokerError {
    let sent = live.was_sent();
    let mut fault = match (why, sent && !live.intent.read_only) {
        (Stop::Asked, _) => Fault::new(ErrorCode::Cancelled, "the call was cancelled"),
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
    /// A call that lives from now on, and will be settled.
    pub(crate) fn begin(inner: &Arc<Inner>, intent: Intent) -> (Self, Arc<Live>) {
        let live = Live::new(intent);
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

    async fn settle(mut self, outcome: Result<ToolResult, BrokerError>) -> Arc<Ended> {
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
        if !live.intent.is_durable() {
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
        if live.intent.is_durable() {
            self.settle_stored(live, &ended).await;
        }
        self.settle_now(live, Arc::clone(&ended));
        ended
    }

    async fn settle_stored(self: &Arc<Self>, live: &Arc<Live>, ended: &Arc<Ended>) {
        let session = live.session();
        if let Err(fault) = self.ledger.settle(&live.intent, ended, session).await {
            // The effect happened and its caller gets the answer; the row follows when the store is back.
            tracing::error!(call.id = %live.id, error = %fault, "the end of a call could not be written; trying again");
            let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
            let (live, ended) = (Arc::clone(live), Arc::clone(ended));
            self.tasks.spawn(async move {
                tokio::select! {
                    () = ledger.settle_later(&live.intent, &ended, session) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// The part of settling that never waits.
    fn settle_now(&self, live: &Arc<Live>, ended: Arc<Ended>) {
        if !live.intent.is_durable() {
            self.ledger.record(&live.intent, &ended, live.session());
        }
        self.meters.ended(&ended);
        self.tell_ended(live, &ended);
        live.end(ended);
        self.live.remove(live.id);
    }
}
