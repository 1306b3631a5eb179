//! One call on one server: its progress in order, then its end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::filter::name_of;
use super::line::{Line, said};
use super::one::Server;
use super::{Event, failure};
use crate::tunnel::frame::{CallResult, FailureCode, Invoke, InvokeMethod};
use crate::tunnel::id::ReqId;
use crate::wire::{Notification, Params, Request};

/// Notifications of one call waiting for its task; what finds it full is counted by the connection.
const PROGRESS_QUEUE: usize = 256;

/// Runs the call. It is over at its deadline at the latest, line or no line.
pub(super) async fn run(
    server: &Arc<Server>,
    req_id: &ReqId,
    invoke: Invoke,
    cancelled: &CancellationToken,
) -> CallResult {
    let timeout = Duration::from_millis(invoke.timeout_ms);
    let deadline = Instant::now() + timeout;
    if invoke.method == InvokeMethod::ToolsCall
        && !name_of(&invoke.params).is_some_and(|tool| server.filter.offers(&tool))
    {
        return CallResult::failed(FailureCode::ToolNotFound, "the agent offers no such tool");
    }
    let who = (req_id, invoke.stream.enabled);
    let entering = server.enter(&invoke.isolation_key, who);
    let entered = tokio::select! {
        entered = tokio::time::timeout_at(deadline, entering) => entered,
        () = cancelled.cancelled() => return stopped(),
    };
    let on_line = match entered {
        Ok(Ok(on_line)) => on_line,
        Ok(Err(why)) => return CallResult::failed(FailureCode::Rejected, why),
        Err(_elapsed) => {
            let words = "the server was not ready before the call's deadline";
            return CallResult::failed(FailureCode::Timeout, words);
        }
    };
    let (params, meta) = Params::split_meta(&invoke.params);
    let (sender, notes) = mpsc::channel(PROGRESS_QUEUE);
    let streams = invoke.stream.enabled;
    let request = Request {
        params,
        meta,
        progress: streams.then_some(sender),
        losses: streams.then(Arc::default),
        ..Request::new(
            invoke.method.as_str(),
            deadline.saturating_duration_since(Instant::now()),
        )
    };
    let outcome = exchange(server, (req_id, &on_line.line), (request, notes), cancelled).await;
    let line = Arc::clone(&on_line.line);
    drop(on_line);
    server.left(&invoke.isolation_key, &line);
    outcome
}

/// Sends the request and passes on what comes before its answer, and how much of that was lost.
async fn exchange(
    server: &Server,
    (req_id, line): (&ReqId, &Line),
    (request, mut notes): (Request, mpsc::Receiver<Notification>),
    cancelled: &CancellationToken,
) -> CallResult {
    let losses = request.losses.clone();
    let lost = || match &losses {
        Some(losses) => losses.swap(0, Ordering::Relaxed),
        None => 0,
    };
    let mut exchange = pin!(line.connection.request(request));
    let end = loop {
        tokio::select! {
            biased;
            Some(note) = notes.recv() => {
                tell_lost(server, req_id, lost()).await;
                tell(server, req_id, &note).await;
            }
            outcome = &mut exchange => break match outcome {
                Ok(result) => CallResult::done(result),
                Err(error) => failure::of(error),
            },
            // Leaving drops the exchange, which tells the server.
            () = cancelled.cancelled() => break stopped(),
        }
    };
    // What came before the answer goes before the answer, and so does what was lost of it.
    while let Ok(note) = notes.try_recv() {
        tell(server, req_id, &note).await;
    }
    tell_lost(server, req_id, lost()).await;
    end
}

/// Tells that this much of a call's words was lost, if any was.
pub(super) async fn tell_lost(server: &Server, req_id: &ReqId, lines: u64) {
    if lines > 0 {
        let req_id = req_id.clone();
        let _ = server
            .shared
            .events
            .send(Event::Lost { req_id, lines })
            .await;
    }
}

async fn tell(server: &Server, req_id: &ReqId, note: &Notification) {
    if let Some((channel, data)) = said(note) {
        let chunk = Event::Chunk {
            req_id: req_id.clone(),
            channel,
            data,
        };
        // Without a receiver the agent is ending.
        let _ = server.shared.events.send(chunk).await;
    }
}

fn stopped() -> CallResult {
    CallResult::failed(FailureCode::Canceled, "the call was cancelled")
}
