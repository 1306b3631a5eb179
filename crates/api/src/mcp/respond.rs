//! How a request is answered: as JSON when nothing comes before the answer and it comes soon, as a stream
//! otherwise, and where the client would rather have one.

use std::cmp::Reverse;
use std::time::Duration;

use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

use super::exchange::Exchange;
use super::frame::{self, Outgoing, Weight};
use super::log::Log;
use super::reply;
use super::session::Session;
use super::stream::{self, Source};
use crate::app::Shared;
use crate::serve::peer::Peer;

/// An answer that is not there by now becomes a stream, whose comments keep proxies from closing the
/// connection and which a legacy client can take up again.
const STREAM_AFTER: Duration = Duration::from_secs(3);

/// What a client takes for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Takes {
    /// One JSON document.
    pub(super) json: bool,
    /// A stream of events; only where it is named: whoever takes anything wants no stream.
    pub(super) events: bool,
    /// It would rather have a stream: of two it takes, that is the one named with the higher weight, or first.
    pub(super) rather_events: bool,
}

impl Takes {
    /// Reads `Accept`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let kinds: Vec<(&str, u16)> = values
            .flat_map(|value| value.split(','))
            .map(kind_and_weight)
            .filter(|(_, weight)| *weight > 0)
            .collect();
        // `max_by_key` would take the last of equals.
        let best = |wanted: &[&str]| {
            let fits = |kind: &str| wanted.iter().any(|one| kind.eq_ignore_ascii_case(one));
            let named = kinds.iter().enumerate().filter(|(_, (kind, _))| fits(kind));
            named.map(|(at, (_, weight))| (*weight, Reverse(at))).max()
        };
        let events = best(&["text/event-stream"]);
        let json = best(&["application/json", "*/*", "application/*"]);
        Self {
            json: json.is_some() || events.is_none(),
            events: events.is_some(),
            rather_events: events > json,
        }
    }
}

/// One entry of `Accept`; its weight in thousandths (RFC 9110 § 12.4.2), 1 where it cannot be read.
fn kind_and_weight(entry: &str) -> (&str, u16) {
    let mut parts = entry.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
    let thousandths = weight.map_or(1000.0, |weight| (weight * 1000.0).clamp(0.0, 1000.0));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1000"
    )]
    (kind, thousandths as u16)
}

/// The first message, as far as it comes before a client should see a stream.
async fn soon(exchange: &mut Exchange, takes: Takes) -> Option<Outgoing> {
    if !takes.events {
        exchange.mute();
        return exchange.next().await;
    }
    if !takes.json {
        return None;
    }
    tokio::select! {
        biased;
        first = exchange.next() => first,
        () = tokio::time::sleep(STREAM_AFTER) => None,
    }
}

/// Whether an answer that is there already goes out as JSON: to whoever would rather have that, and where the
/// HTTP status says something.
fn is_plain(takes: Takes, status: StatusCode) -> bool {
    !takes.rather_events || !takes.events || status != StatusCode::OK
}

/// Answers a modern request whose result is there.
pub(super) fn ready_modern(
    app: &Shared,
    peer: Peer,
    headers: &HeaderMap,
    (status, json): (StatusCode, Vec<u8>),
) -> Response {
    if is_plain(Takes::of(headers), status) {
        return reply::json(status, json);
    }
    stream::ended(app, peer, frame::event(None, &json))
}

/// Answers a legacy request whose answer is there.
pub(super) fn ready_legacy(
    session: &Arc<Session>,
    peer: Peer,
    headers: &HeaderMap,
    (app, json): (&Shared, Vec<u8>),
) -> Response {
    if is_plain(Takes::of(headers), StatusCode::OK) {
        return reply::json(StatusCode::OK, json);
    }
    let log = begun(session);
    log.push(&Outgoing::on_the_way(json, Weight::Answer));
    log.end();
    stream::answer(app, peer, Source::log(log.read(0), session))
}

/// A new stream of a session, with the event it can be taken up after where the revision has one.
fn begun(session: &Session) -> Arc<Log> {
    let log = session.stream();
    if session.revision().primes_streams() {
        log.prime();
    }
    log
}

/// Answers a modern request. The stream is the exchange: losing it cancels the call.
pub(super) async fn modern(
    app: &Shared,
    peer: Peer,
    headers: &HeaderMap,
    mut exchange: Box<Exchange>,
) -> Response {
    let takes = Takes::of(headers);
    match soon(&mut exchange, takes).await {
        Some(message) if message.weight == Weight::Answer && is_plain(takes, message.status) => {
            reply::json(message.status, message.json)
        }
        first => stream::exchange(app, peer, (first, exchange)),
    }
}

/// Answers a legacy request. The stream is a log that outlives the connection.
pub(super) async fn legacy(
    session: &Arc<Session>,
    peer: Peer,
    headers: &HeaderMap,
    (app, mut exchange): (&Shared, Box<Exchange>),
) -> Response {
    let takes = Takes::of(headers);
    let first = soon(&mut exchange, takes).await;
    match first {
        Some(message) if message.weight == Weight::Answer && is_plain(takes, StatusCode::OK) => {
            reply::json(StatusCode::OK, message.json)
        }
        first => {
            let log = begun(session);
            if let Some(first) = first {
                log.push(&first);
            }
            let written = Arc::clone(&log);
            app.mcp.tasks.spawn(async move {
                write(*exchange, &written).await;
                written.end();
            });
            stream::answer(app, peer, Source::log(log.read(0), session))
        }
    }
}

/// Writes an exchange into a stream to its end.
pub(super) async fn write(mut exchange: Exchange, log: &Log) {
    while let Some(message) = exchange.next().await {
        log.push(&message);
    }
}

/// Answers a batch: every answer on one stream, in the order they come.
pub(super) async fn batch(
    session: &Arc<Session>,
    peer: Peer,
    headers: &HeaderMap,
    (app, ready, exchanges): (&Shared, Vec<Vec<u8>>, Vec<Exchange>),
) -> Response {
    if !Takes::of(headers).events {
        return whole_batch(ready, exchanges).await;
    }
    let log = session.stream();
    for json in ready {
        log.push(&Outgoing::on_the_way(json, Weight::Answer));
    }
    let written = Arc::clone(&log);
    app.mcp.tasks.spawn(async move {
        let writing: FuturesUnordered<_> = exchanges
            .into_iter()
            .map(|exchange| write(exchange, &written))
            .collect();
        writing.collect::<()>().await;
        written.end();
    });
    stream::answer(app, peer, Source::log(log.read(0), session))
}

/// The same as one JSON array, for a client that takes no stream.
async fn whole_batch(mut answers: Vec<Vec<u8>>, exchanges: Vec<Exchange>) -> Response {
    let ends = exchanges.into_iter().map(|mut exchange| async move {
        exchange.mute();
        exchange.next().await
    });
    let ends: FuturesUnordered<_> = ends.collect();
    answers.extend(
        ends.filter_map(async |end| end.map(|end| end.json))
            .collect::<Vec<_>>()
            .await,
    );
    let mut json = vec![b'['];
    json.extend_from_slice(&answers.join(&b','));
    json.push(b']');
    reply::json(StatusCode::OK, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_for_whoever_names_it_and_the_answer_for_whoever_names_it_first() {
        for (accept, json, events, rather_events) in [
            (
                Some("application/json, text/event-stream"),
                true,
                true,
                false,
            ),
            (
                Some("text/event-stream, application/json"),
                true,
                true,
                true,
            ),
            (
                Some("application/json;q=0.5, text/event-stream"),
                true,
                true,
                true,
            ),
            (Some("text/event-stream;q=0.1, */*"), true, true, false),
            (Some("text/event-stream;q=0, */*"), true, false, false),
            (Some("text/event-stream"), false, true, true),
            (Some("application/json"), true, false, false),
            (Some("*/*"), true, false, false),
            (Some("text/html"), true, false, false),
            (None, true, false, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            let expected = Takes {
                json,
                events,
                rather_events,
            };
            assert_eq!(Takes::of(&headers), expected, "{accept:?}");
        }
    }
}
