//! Keeps one server's connection open, its catalogue fresh, and starts it again when it died.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::status::ServerState;
use super::backoff::Backoff;
use super::call::tell_lost;
use super::line::{Heard, Line, heard};
use super::one::{Base, SLOT_IDLE, Server, told};
use super::{Event, catalogue};
use crate::connection::Inbound;
use crate::error::{CloseReason, RequestError};
use crate::tunnel::frame::ServerTools;
use crate::wire::ServerRequest;

/// Several changes at once are read once.
const SETTLE: Duration = Duration::from_millis(100);
/// Pause after a catalogue could not be read.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// A call may ask for a server that is down; not more often than this is it tried.
const SOONEST: Duration = Duration::from_millis(250);
/// The oldest error code of JSON-RPC for what nobody answers.
const METHOD_NOT_FOUND: i64 = -32601;

/// Why a connection is no longer tended.
enum Ended {
    Closed(CloseReason),
    Stopped,
}

/// The task of one server, from its start until nothing of it is left.
pub(super) async fn keep(server: Arc<Server>) {
    let mut backoff = Backoff::default();
    let mut failures = 0;
    let mut number = 0;
    while !server.retired.is_cancelled() {
        server.base.send_replace(Base::Opening);
        let why = match server.open().await {
            Ok((line, inbound)) => {
                number += 1;
                let opened = Instant::now();
                match tend(&server, number, &line, inbound).await {
                    Ended::Stopped => {
                        line.connection.close().await;
                        break;
                    }
                    Ended::Closed(reason) => {
                        line.connection.close().await;
                        backoff.ran(opened.elapsed());
                        lost(&server, &line, &reason)
                    }
                }
            }
            Err(error) => told(&error),
        };
        if server.retired.is_cancelled() {
            break;
        }
        failures += 1;
        down(&server, failures, why);
        pause(&server, backoff.next(rand::random())).await;
    }
    server.base.send_replace(Base::Retired);
    server.stop.cancel();
    server.tasks.close();
    server.tasks.wait().await;
}

/// What is said of a connection that ended by itself.
fn lost(server: &Server, line: &Line, reason: &CloseReason) -> String {
    let why = match reason {
        CloseReason::Asked => "the connection was closed".to_owned(),
        CloseReason::Exited(detail) | CloseReason::Lost(detail) => detail.clone(),
    };
    let words = line.connection.stderr_tail();
    let last = words.last().map(String::as_str).unwrap_or_default();
    tracing::warn!(
        tunnel.server = server.name(),
        why,
        last_words = last,
        "a server ended"
    );
    server.note(|_, status| {
        status.restarts += 1;
        status.pid = None;
    });
    why
}

fn down(server: &Server, failures: u64, why: String) {
    tracing::warn!(
        tunnel.server = server.name(),
        failures,
        why,
        "a server is down"
    );
    server.note(|offered, status| {
        status.state = ServerState::Down;
        status.problem = Some(why.clone());
        offered.problem = Some(why.clone());
    });
    server.base.send_replace(Base::Down { failures, why });
}

/// Waits, but not when a call wants the server.
async fn pause(server: &Server, pause: Duration) {
    let wanted = async {
        tokio::time::sleep(SOONEST).await;
        server.wake.notified().await;
    };
    tokio::select! {
        () = server.retired.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
        () = wanted => {}
    }
}

type Reading<'a> =
    Pin<Box<dyn Future<Output = Result<(ServerTools, bool), RequestError>> + Send + 'a>>;

/// Tends the kept connection until it or the server ends.
async fn tend(
    server: &Arc<Server>,
    number: u64,
    line: &Arc<Line>,
    mut inbound: mpsc::Receiver<Inbound>,
) -> Ended {
    server
        .base
        .send_replace(Base::Ready(number, Arc::clone(line)));
    let pid = line.connection.process().map(|process| process.pid);
    server.note(|_, status| {
        status.state = ServerState::Ready;
        status.problem = None;
        status.pid = pid;
    });
    let mut read_at = Some(Instant::now());
    let mut reading: Option<Reading<'_>> = None;
    let mut dropped = 0;
    loop {
        let due = read_at.filter(|_| reading.is_none());
        tokio::select! {
            reason = line.connection.closed() => return Ended::Closed(reason),
            () = server.stop.cancelled() => return Ended::Stopped,
            () = idle(line), if server.retired.is_cancelled() => return Ended::Stopped,
            () = server.retired.cancelled(), if !server.retired.is_cancelled() => {}
            Some(heard_now) = inbound.recv() => {
                if hear(server, line, heard_now, &mut dropped).await {
                    read_at = Some(Instant::now() + SETTLE);
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                read_at = None;
                let list = catalogue::read(&line.connection, server.name(), &server.filter);
                reading = Some(Box::pin(list));
            }
            Some(read) = finished(&mut reading) => {
                reading = None;
                if !take(server, read) {
                    read_at = read_at.or(Some(Instant::now() + READ_AGAIN));
                }
            }
        }
    }
}

/// Resolves when nothing is on a line that is to go.
async fn idle(line: &Line) {
    while line.idle_since().is_none() {
        tokio::time::sleep(SETTLE).await;
    }
}

async fn finished(
    reading: &mut Option<Reading<'_>>,
) -> Option<Result<(ServerTools, bool), RequestError>> {
    match reading {
        Some(reading) => Some(reading.await),
        None => std::future::pending().await,
    }
}

/// Keeps what was read; false when it has to be read again.
fn take(server: &Server, read: Result<(ServerTools, bool), RequestError>) -> bool {
    match read {
        Ok((offered, cut)) => {
            if cut {
                let name = server.name();
                tracing::warn!(tunnel.server = name, "the server lists more than is read");
            }
            server.note(|known, status| {
                *known = offered;
                status.problem = None;
            });
            true
        }
        Err(error) => {
            let why = error.to_string();
            tracing::warn!(
                tunnel.server = server.name(),
                why,
                "the catalogue is not readable"
            );
            server.note(|known, status| {
                let words = format!("its catalogue could not be read: {why}");
                known.problem = Some(words.clone());
                status.problem = Some(words);
            });
            false
        }
    }
}

/// Passes on what a server says on its own; true when its lists changed.
async fn hear(server: &Server, line: &Arc<Line>, inbound: Inbound, dropped: &mut u64) -> bool {
    match heard(inbound) {
        Heard::ListChanged => return true,
        Heard::Asked(request) => decline(line, request).await,
        Heard::Said(channel, data) => {
            let lost = line.connection.dropped_notifications();
            let lines = lost.saturating_sub(*dropped);
            *dropped = lost;
            for req_id in line.listeners() {
                tell_lost(server, &req_id, lines).await;
                let data = data.clone();
                let chunk = Event::Chunk {
                    req_id,
                    channel,
                    data,
                };
                let _ = server.shared.events.send(chunk).await;
            }
        }
        Heard::Nothing => {}
    }
    false
}

/// An agent has nobody to ask: the tunnel's first revision carries no questions back.
async fn decline(line: &Line, request: ServerRequest) {
    let answer = if request.method == "ping" {
        Ok(RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    } else {
        let words = "nobody can be asked through an agent".to_owned();
        Err((METHOD_NOT_FOUND, words))
    };
    line.connection.answer(request.id, answer).await;
}

/// The task of one key's own connection.
pub(super) async fn tend_slot(
    server: Arc<Server>,
    key: String,
    line: Arc<Line>,
    mut inbound: mpsc::Receiver<Inbound>,
) {
    let mut dropped = 0;
    let mut look = tokio::time::interval(SLOT_IDLE / 5);
    loop {
        tokio::select! {
            _ = line.connection.closed() => break,
            () = server.stop.cancelled() => break,
            () = line.closing.cancelled() => break,
            _ = look.tick() => {
                server.leave_slot(&key, &line, SLOT_IDLE);
            }
            Some(heard_now) = inbound.recv() => {
                // Only the kept connection's catalogue is told; a change here is most likely one there too.
                let _ = hear(&server, &line, heard_now, &mut dropped).await;
            }
        }
    }
    server.forget_slot(&key, &line);
    line.connection.close().await;
}
