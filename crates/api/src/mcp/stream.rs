//! Server-sent events as an HTTP body: where they come from, what keeps them awake, how they end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::Response;
use broker::{BrokerError, ErrorCode};
use bytes::Bytes;
use futures_util::stream;
use sessions::UserId;
use tokio_util::sync::CancellationToken;

use super::exchange::Exchange;
use super::frame::{self, Outgoing};
use super::legacy_sse::Outlet;
use super::listen::Listen;
use super::log::Reader;
use super::session::{Held, Session};
use crate::app::Shared;
use crate::event_stream::{self, COMMENT_INTERVAL, PROBE_INTERVAL};
use crate::serve::peer::Peer;

/// Streams without an end of their own at once; some connections must be left for requests.
const MAX_STREAMS: usize = 6144;
/// The same for one user: a thousand conversations with a stream each, and their reconnects.
const MAX_STREAMS_PER_USER: usize = 3072;

/// Where events come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A modern request: ends with its answer; dropping it cancels the call.
    Exchange(Box<Exchange>),
    /// A legacy stream: outlives this connection.
    Log {
        /// This connection's place in it.
        reader: Reader,
        /// The session is not idle meanwhile.
        _held: Held,
    },
    /// A modern subscription, or a legacy client's stream of unsolicited messages.
    Listen(Box<Listen>),
    /// The one stream of a client of HTTP+SSE; the session ends with it.
    Outlet(Box<Outlet>),
    /// Nothing follows.
    Over,
}

impl Source {
    /// A stream of a session.
    pub(super) fn log(reader: Reader, session: &Arc<Session>) -> Self {
        Self::Log {
            reader,
            _held: session.hold(),
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Exchange(exchange) => {
                let message = exchange.next().await?;
                Some(frame::event(None, &message.json))
            }
            Self::Log { reader, .. } => reader.next().await,
            Self::Listen(listen) => listen.next().await,
            Self::Outlet(outlet) => outlet.next().await,
            Self::Over => None,
        }
    }

    /// Nothing is under way that would end by itself when the bridge closes.
    fn endless(&self) -> bool {
        match self {
            Self::Listen(_) => true,
            Self::Outlet(outlet) => outlet.is_quiet(),
            Self::Exchange(_) | Self::Log { .. } | Self::Over => false,
        }
    }
}

struct Stream {
    first: Option<Bytes>,
    source: Source,
    closing: CancellationToken,
    peer: Peer,
    ended: bool,
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.ended {
            return None;
        }
        let patience = if self.peer.half_closed() {
            PROBE_INTERVAL
        } else {
            COMMENT_INTERVAL
        };
        let endless = self.source.endless();
        tokio::select! {
            biased;
            frame = self.source.next() => frame,
            // Calls are ended by the broker, and their answers still go out.
            () = self.closing.cancelled(), if endless => {
                self.ended = true;
                match &mut self.source {
                    Source::Listen(listen) => listen.farewell(),
                    Source::Exchange(_)
                    | Source::Log { .. }
                    | Source::Outlet(_)
                    | Source::Over => None,
                }
            }
            () = self.peer.closes_half() => Some(event_stream::comment()),
            () = tokio::time::sleep(patience) => Some(event_stream::comment()),
        }
    }
}

/// The answer around a stream. A comment opens it: the client sees that it is one before anything happens.
pub(super) fn answer(app: &Shared, peer: Peer, source: Source) -> Response {
    begun(app, peer, (event_stream::comment(), source))
}

/// The answer around a stream of one event.
pub(super) fn ended(app: &Shared, peer: Peer, only: Bytes) -> Response {
    begun(app, peer, (only, Source::Over))
}

/// An exchange as a stream, with its first message in hand.
pub(super) fn exchange(
    app: &Shared,
    peer: Peer,
    (first, exchange): (Option<Outgoing>, Box<Exchange>),
) -> Response {
    let first = first.map_or_else(event_stream::comment, |first| {
        frame::event(None, &first.json)
    });
    begun(app, peer, (first, Source::Exchange(exchange)))
}

/// The answer around a stream with its first event.
pub(super) fn begun(app: &Shared, peer: Peer, (first, source): (Bytes, Source)) -> Response {
    let stream = Stream {
        first: Some(first),
        source,
        closing: app.closing.clone(),
        peer,
        ended: false,
    };
    event_stream::answer(stream::unfold(stream, |mut stream| async move {
        let frame = stream.next().await?;
        Some((Ok(frame), stream))
    }))
}

/// Counts streams that end only with their client.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<UserId, usize>>);

impl Places {
    /// A place for one more.
    ///
    /// # Errors
    /// `overloaded` or `quota_exceeded`.
    pub(super) fn take(app: &Shared, user: &UserId) -> Result<Place, BrokerError> {
        let mut taken = app
            .mcp
            .places
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(user).copied().unwrap_or_default();
        let refused = |code, detail| {
            let mut fault = broker::Fault::new(code, detail);
            fault.retry_after = Some(Duration::from_secs(5));
            fault
        };
        if own >= MAX_STREAMS_PER_USER {
            return Err(refused(
                ErrorCode::QuotaExceeded,
                "too many streams are open",
            ));
        }
        if taken.values().sum::<usize>() >= MAX_STREAMS {
            return Err(refused(ErrorCode::Overloaded, "too many streams are open"));
        }
        taken.insert(user.clone(), own + 1);
        Ok(Place {
            app: app.clone(),
            user: user.clone(),
        })
    }
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    app: Shared,
    user: UserId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self
            .app
            .mcp
            .places
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.user);
            }
        }
    }
}
