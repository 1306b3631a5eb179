//! The exchange of a call with its server: one request, its progress, and what the server asks back meanwhile.
//!
//! A legacy server asks by requests of its own while its answer is open; a modern one ends the exchange with
//! `input_required` and is asked again with the answers. Callers see no difference.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sessions::SessionLease;
use tokio::sync::mpsc;
use tokio::time::Instant;
use transports::{Era, Notification, Params, Request, RequestError};

use super::core_tasks;
use super::questions::{self, Questions, Source};
use super::rounds;
use super::run::Job;
use super::server_tasks;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::gate::Permit;
use crate::operations::Inner;
use crate::operations::calls::ToolResult;
use crate::trace::Trace;
use crate::upstream_fault::Upstream;

/// Notifications of one call that wait to be told; more are counted by the transport and lost.
const PROGRESS_QUEUE: usize = 64;
/// Questions on a call's own stream that wait to be put; more are declined by the transport at once.
const ASKS_QUEUE: usize = 8;
/// Rounds of `input_required` of one call; a server that asks longer is not going to answer.
const MAX_ROUNDS: usize = 16;

/// Runs a job to its result with the caller's own access to the server, and tells the server's circuit what it came to.
pub(super) async fn exchange(inner: &Arc<Inner>, mut job: Job) -> Result<ToolResult, BrokerError> {
    let (watch, given) = (job.permit.take_watch(), job.timeout);
    let (server, user) = (Arc::clone(&job.server), job.caller.user.clone());
    let outcome = match inner.vault.personal(&server, &user).await {
        Ok(own) => {
            job.server = own;
            exchanged(inner, job).await
        }
        Err(fault) => Err(fault),
    };
    let outcome = outcome.map_err(|fault| inner.vault.with_link(fault, (&server, &user)));
    if let Some(circuit) = watch.and_then(|watch| watch.note(&outcome, given)) {
        inner.tell_circuit((&server, &user), &circuit);
    }
    outcome
}

async fn exchanged(inner: &Arc<Inner>, mut job: Job) -> Result<ToolResult, BrokerError> {
    let server = Arc::clone(&job.server);
    let upstream = Upstream {
        server: server.name.as_str(),
        redactions: server.redactions(),
    };
    // The place in flight is taken until the job goes.
    let _place: &Permit = &job.permit;
    let target = server.target()?;
    let lease = inner
        .sessions
        .acquire(&job.caller, target, job.deadline)
        .await;
    let lease = lease.map_err(|error| upstream.not_opened(&error))?;
    let mut params = std::mem::take(&mut job.params);
    // Only a modern server ends a round by asking, and only who does not take that as the answer goes round again.
    let modern = lease.peer().era == Era::Modern;
    let rounds = modern && !job.takes_input_required();
    let drives_task = job.drives_task && !modern;
    if drives_task {
        params = core_tasks::beginning(params);
    }
    for round in 0..=MAX_ROUNDS {
        let left = job.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() && round == 0 {
            return Err(upstream.too_late_to_send());
        }
        if round == 0 {
            job.live.dispatched(lease.id());
            inner.tell_sent(&job.live);
        }
        let again = rounds.then(|| params.clone());
        let mut request = job.request(params, left);
        request.call_id = job.live.begin_round(round);
        let raw = answered(inner, &job, &lease, request).await;
        let raw = raw.map_err(|error| unanswered(&upstream, &job, &error))?;
        let result = ToolResult::read(raw, inner.calls.result_bytes)
            .map_err(|fault| unreadable(fault, &upstream))?;
        match again {
            Some(sent) if result.is_input_required() => {
                let asked = rounds::next_round(inner, &job, sent, &result);
                params = asked.await.map_err(|fault| unreadable(fault, &upstream))?;
            }
            None if result.is_input_required() && !job.takes_input_required() => {
                let detail = "a server of an old revision asks as only a new one may";
                let fault = Fault::new(ErrorCode::UpstreamProtocolError, detail);
                return Err(unreadable(fault, &upstream));
            }
            _ => {
                let of = (&lease, &upstream);
                return finished(inner, &job, of, (result, drives_task)).await;
            }
        }
    }
    let detail = format!("the server asked back more than {MAX_ROUNDS} times");
    let fault = Fault::new(ErrorCode::UpstreamProtocolError, detail);
    Err(unreadable(fault, &upstream))
}

/// What the last round came to: a task that the caller does not follow is waited for.
async fn finished(
    inner: &Arc<Inner>,
    job: &Job,
    (lease, upstream): (&SessionLease, &Upstream<'_>),
    (result, drives_task): (ToolResult, bool),
) -> Result<ToolResult, BrokerError> {
    let task = drives_task.then(|| core_tasks::begun(&result)).flatten();
    if let Some(id) = task {
        return Box::pin(core_tasks::result(inner, job, (lease, upstream), id)).await;
    }
    let modern = lease.peer().era == Era::Modern;
    if modern && result.is_task() && !job.follows_server_tasks() {
        let of = (lease, upstream);
        return Box::pin(server_tasks::result(inner, job, of, &result)).await;
    }
    inner.tasks_of.note(&job.caller.user, &job.server, &result);
    Ok(result)
}

/// Why there is no answer.
pub(super) fn unanswered(upstream: &Upstream<'_>, job: &Job, error: &RequestError) -> BrokerError {
    match error {
        RequestError::Timeout { .. } => upstream.timed_out(job.timeout, job.exchange),
        error => upstream.not_answered(error, job.exchange),
    }
}

pub(super) fn unreadable(mut fault: BrokerError, upstream: &Upstream<'_>) -> BrokerError {
    fault.executed = ExecutedWire::Unknown;
    fault.upstream = Some((upstream.server.to_owned(), None));
    fault
}

impl Job {
    pub(super) fn request(&self, params: Params, timeout: Duration) -> Request {
        let client = self.client.as_deref();
        Request {
            params,
            meta: meta(&self.trace, client.map(|client| &client.meta)),
            client_capabilities: questions::capabilities(client, self.attended),
            log_level: client.and_then(|client| client.log_level),
            repeatable: self.repeatable,
            ..Request::new(self.method.clone(), timeout)
        }
    }
}

/// Waits for the answer, and serves what comes before it.
pub(super) async fn answered(
    inner: &Inner,
    job: &Job,
    lease: &SessionLease,
    mut request: Request,
) -> Result<Box<RawValue>, RequestError> {
    let (progress, mut told) = mpsc::channel(PROGRESS_QUEUE);
    request.progress = Some(progress);
    let legacy = lease.peer().era == Era::Legacy;
    let answer = if job.attended && legacy {
        Box::pin(attended(inner, job, lease, (request, &mut told))).await
    } else {
        let mut answer = std::pin::pin!(lease.request(request));
        loop {
            tokio::select! {
                biased;
                Some(notification) = told.recv() => inner.tell_progress(&job.live, job.server.redactions(), notification),
                answer = &mut answer => break answer,
            }
        }
    };
    while let Ok(notification) = told.try_recv() {
        inner.tell_progress(&job.live, job.server.redactions(), notification);
    }
    answer
}

/// As [`answered`], for a call whose caller hears what an old server asks meanwhile.
async fn attended(
    inner: &Inner,
    job: &Job,
    lease: &SessionLease,
    (mut request, told): (Request, &mut mpsc::Receiver<Notification>),
) -> Result<Box<RawValue>, RequestError> {
    let (asks, mut on_stream) = mpsc::channel(ASKS_QUEUE);
    request.asks = Some(asks);
    let mut on_session = lease.listen_requests();
    let mut questions = Questions::new(inner, job, lease);
    let mut answer = std::pin::pin!(lease.request(request));
    loop {
        tokio::select! {
            biased;
            Some(notification) = told.recv() => inner.tell_progress(&job.live, job.server.redactions(), notification),
            Some(asked) = on_stream.recv() => questions.put(asked, Source::Stream).await,
            Some(heard) = on_session.recv() => questions.heard(heard).await,
            true = questions.serve() => {}
            answer = &mut answer => break answer,
        }
    }
}

/// `traceparent`, so that the upstream's spans join ours, and what the caller's client wants sent on.
fn meta(trace: &Trace, client: Option<&Params>) -> Params {
    let mut members = Vec::with_capacity(2 + client.map_or(0, |client| client.0.len()));
    if let Ok(parent) = serde_json::value::to_raw_value(&trace.traceparent()) {
        members.push(("traceparent".into(), parent));
    }
    if let Some(Ok(state)) = trace.tracestate().map(serde_json::value::to_raw_value) {
        members.push(("tracestate".into(), state));
    }
    let own = |name: &str| name == "traceparent" || name == "tracestate";
    let others = client.iter().flat_map(|client| &client.0);
    members.extend(others.filter(|(name, _)| !own(name)).cloned());
    Params(members)
}
