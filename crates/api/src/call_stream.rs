//! One call's events as a stream: while it runs, and later. The last frame is terminal.

mod past;

use std::time::Duration;

use axum::response::Response;
use broker::events::{Event, EventKind};
use broker::operations::calls::{CallDone, PendingCall};
use broker::operations::records::EventQuery;
use broker::{Asker, BrokerError, ErrorCode, Fault};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::answer::Answer;
use crate::app::Shared;
use crate::event_stream::{self, Feed, Frame, Next};
use crate::problem;
use crate::serve::peer::Peer;

/// How long the terminal event may trail the call's end; it is published before the call's future ends,
/// so this only covers a subscription that lost it.
const TRAIL: Duration = Duration::from_secs(2);

type Outcome = Result<CallDone, BrokerError>;

/// A running call and the events of it.
struct Run {
    call: Option<AbortOnDropHandle<Outcome>>,
    outcome: Option<Outcome>,
    feed: Feed,
    call_id: String,
    trace_id: String,
    /// The events of it are lost.
    deaf: bool,
    ended: bool,
}

/// Runs an admitted call and streams its events. Dropping the stream drops the call's future, which
/// cancels it upstream unless it has an idempotency key.
///
/// # Errors
/// `store_unavailable`; then the call was not sent.
pub(crate) async fn run(app: &Shared, asker: &Asker, pending: PendingCall, peer: Peer) -> Answer {
    let call_id = pending.call_id().to_owned();
    let query = EventQuery {
        kinds: Vec::new(),
        after: Some(0),
        call_id: Some(call_id.clone()),
    };
    let subscription = app.broker.subscribe(asker, query).await?;
    let run = Run {
        // Its own task: a client that reads slowly must not slow the call or its deadline.
        call: Some(AbortOnDropHandle::new(tokio::spawn(pending.run()))),
        outcome: None,
        feed: Feed::new(app, subscription, peer),
        call_id,
        trace_id: asker.trace.id(),
        deaf: false,
        ended: false,
    };
    let frames = stream::unfold(run, |mut run| async move {
        let frame = run.next().await?;
        Some((Ok(frame), run))
    });
    Ok(event_stream::answer(frames))
}

impl Run {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            let told = match &mut self.call {
                // The call has its own time to end in a shutdown, and is told to its end.
                Some(call) => tokio::select! {
                    biased;
                    told = self.feed.next_beyond_closing(), if !self.deaf => told,
                    outcome = call => {
                        self.outcome = Some(outcome.unwrap_or_else(|_| {
                            Err(Fault::new(ErrorCode::Internal, "the bridge failed"))
                        }));
                        self.call = None;
                        continue;
                    }
                },
                None => tokio::time::timeout(TRAIL, self.feed.next())
                    .await
                    .unwrap_or(Next::End),
            };
            match told {
                Next::Event(event) => {
                    self.ended = is_terminal(&event);
                    return Some(event_stream::frame(&event));
                }
                Next::Silence => return Some(event_stream::comment()),
                // Nothing more is heard of the call, but it runs: its end is awaited all the same.
                Next::End if self.call.is_some() => self.deaf = true,
                Next::End => {
                    self.ended = true;
                    return self.outcome.take().map(|outcome| self.terminal(&outcome));
                }
            }
        }
    }

    /// The end in our own words, when its event did not come: no id, so that nobody resumes after it.
    fn terminal(&self, outcome: &Outcome) -> Bytes {
        let instance = format!("/v1/calls/{}", self.call_id);
        let data = match outcome {
            Ok(done) => {
                let result: Option<serde_json::Value> =
                    serde_json::from_str(done.result.raw().get()).ok();
                json!({"req_id": self.call_id, "ok": !done.result.is_error(), "result_json": result})
            }
            Err(fault) => {
                let error = problem::of(fault, &instance, &self.trace_id);
                json!({"req_id": self.call_id, "ok": false, "error": error})
            }
        };
        unnumbered(&self.call_id, &self.trace_id, &data)
    }
}

fn unnumbered(call_id: &str, trace_id: &str, data: &serde_json::Value) -> Bytes {
    let line = json!({
        "type": EventKind::ToolResult.as_str(), "call_id": call_id, "req_id": call_id,
        "trace_id": trace_id, "data": data,
    });
    Bytes::from(format!(
        "event: {}\ndata: {line}\n\n",
        EventKind::ToolResult.as_str()
    ))
}

fn is_terminal(event: &Event) -> bool {
    event.kind == EventKind::ToolResult
}

/// An answer that was there already, as a stream of one terminal event.
#[must_use]
pub(crate) fn replayed(done: &CallDone) -> Response {
    let result: Option<serde_json::Value> = serde_json::from_str(done.result.raw().get()).ok();
    let data = json!({
        "req_id": done.call_id, "ok": !done.result.is_error(), "result_json": result, "replayed": true,
    });
    let frame: Frame = Ok(unnumbered(&done.call_id, &done.trace_id, &data));
    event_stream::answer(stream::iter([frame]))
}

/// Follows a call that was accepted earlier: (call id, resume after).
///
/// # Errors
/// `call_not_found`.
pub(crate) async fn follow(app: &Shared, asker: &Asker, from: (&str, u64), peer: Peer) -> Answer {
    let (call_id, after) = from;
    let query = EventQuery {
        kinds: Vec::new(),
        after: Some(after),
        call_id: Some(call_id.to_owned()),
    };
    // Subscribed before the state is looked at: what happens in between is seen.
    let subscription = app.broker.subscribe(asker, query.clone()).await?;
    let view = app.broker.get_call(asker, call_id, Duration::ZERO).await?;
    if !view.state.is_terminal() {
        let feed = Feed::new(app, subscription, peer);
        return Ok(event_stream::answer(until_terminal(feed)));
    }
    let frames = past::frames((app, asker), query, view).await?;
    Ok(event_stream::answer(frames))
}

fn until_terminal(feed: Feed) -> impl futures_util::Stream<Item = Frame> {
    stream::unfold((feed, false), |(mut feed, ended)| async move {
        if ended {
            return None;
        }
        match feed.next().await {
            Next::Event(event) => {
                let ended = is_terminal(&event);
                Some((Ok(event_stream::frame(&event)), (feed, ended)))
            }
            Next::Silence => Some((Ok(event_stream::comment()), (feed, false))),
            Next::End => None,
        }
    })
}
