//! Events as `text/event-stream`: frames, the comment that keeps proxies awake, and the end of a stream.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use broker::events::Event;
use broker::operations::records::Subscription;
use bytes::Bytes;
use chrono::SecondsFormat;
use futures_util::Stream;
use futures_util::future::{Either, select};
use futures_util::stream;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::answer;
use crate::app::Shared;
use crate::serve::peer::Peer;
use crate::wire;

/// Silence is broken by a comment this often (rest.md): proxies close what is silent for 30 s.
pub(crate) const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// After the peer closed its sending half a comment probes this often whether it is still there.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// A comment.
const COMMENT: &[u8] = b":\n\n";

/// A frame, or why the stream broke.
pub(crate) type Frame = Result<Bytes, std::io::Error>;

/// An event as it stands in `data:`.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    event: &'a Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    req_id: Option<String>,
}

/// One event as a frame.
#[must_use]
pub(crate) fn frame(event: &Event) -> Bytes {
    let line = Line {
        event,
        req_id: event.call_id().map(|id| id.to_string()),
    };
    // An event is plain text and ready JSON: it always has a JSON form.
    let data = serde_json::to_string(&line).unwrap_or_default();
    let kind = event.kind.as_str();
    Bytes::from(format!(
        "id: {:016x}\nevent: {kind}\ndata: {data}\n\n",
        event.id
    ))
}

/// One event in the shape of the wire.
#[must_use]
pub(crate) fn shown(event: &Event) -> wire::Event {
    wire::Event {
        id: format!("{:016x}", event.id),
        kind: event.kind.as_str().to_owned(),
        ts: event.ts.to_rfc3339_opts(SecondsFormat::Millis, true),
        trace_id: event.trace_id().map(str::to_owned),
        session_id: event.session_id().map(|id| id.to_string()),
        call_id: event.call_id().map(|id| id.to_string()),
        req_id: event.call_id().map(|id| id.to_string()),
        agent_id: event.agent_id().map(str::to_owned),
        data: event.data().to_owned(),
    }
}

/// What a subscription gave within the comment interval.
#[derive(Debug)]
pub(crate) enum Next {
    /// An event.
    Event(Arc<Event>),
    /// Nothing: time for a comment.
    Silence,
    /// Nothing more comes.
    End,
}

/// A subscription read for one connection.
#[derive(Debug)]
pub(crate) struct Feed {
    subscription: Subscription,
    closing: CancellationToken,
    peer: Peer,
}

impl Feed {
    /// Reads a subscription until the bridge shuts down.
    #[must_use]
    pub(crate) fn new(app: &Shared, subscription: Subscription, peer: Peer) -> Self {
        Self {
            subscription,
            closing: app.closing.clone(),
            peer,
        }
    }

    /// The next event, or silence, or the end.
    pub(crate) async fn next(&mut self) -> Next {
        let closing = self.closing.clone();
        self.until(closing.cancelled()).await
    }

    /// As [`Self::next`] for whoever must see the end of something first: a shutdown ends nothing.
    pub(crate) async fn next_beyond_closing(&mut self) -> Next {
        self.until(std::future::pending()).await
    }

    async fn until(&mut self, over: impl Future<Output = ()>) -> Next {
        let patience = if self.peer.half_closed() {
            PROBE_INTERVAL
        } else {
            COMMENT_INTERVAL
        };
        let ended = pin!(async {
            tokio::select! {
                () = over => Next::End,
                () = self.peer.closes_half() => Next::Silence,
                () = tokio::time::sleep(patience) => Next::Silence,
            }
        });
        let event = pin!(self.subscription.next());
        match select(event, ended).await {
            Either::Left((Some(event), _)) => Next::Event(event),
            Either::Left((None, _)) => Next::End,
            Either::Right((told, _)) => told,
        }
    }
}

/// A comment, as a frame.
#[must_use]
pub(crate) fn comment() -> Bytes {
    Bytes::from_static(COMMENT)
}

/// Every event of a subscription.
pub(crate) fn endless(
    app: &Shared,
    subscription: Subscription,
    peer: Peer,
) -> impl Stream<Item = Frame> + use<> {
    let feed = Feed::new(app, subscription, peer);
    // The first comment opens the stream: clients see that they are subscribed before anything happens.
    stream::unfold((feed, true), |(mut feed, first)| async move {
        if first {
            return Some((Ok(comment()), (feed, false)));
        }
        match feed.next().await {
            Next::Event(event) => Some((Ok(frame(&event)), (feed, false))),
            Next::Silence => Some((Ok(comment()), (feed, false))),
            Next::End => None,
        }
    })
}

/// The answer around a stream of frames.
pub(crate) fn answer(frames: impl Stream<Item = Frame> + Send + 'static) -> Response {
    let kind = HeaderValue::from_static("text/event-stream");
    let mut response = answer::bytes(Body::from_stream(frames), kind);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx buffers streams unless told.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
