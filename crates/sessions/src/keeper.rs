//! The task of one session: does what its state asks for, from its first connection until nothing of it is left.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use transports::{CloseReason, Inbound};

use crate::entry::{Entry, Link};
use crate::heartbeat;
use crate::inspect::SessionNotice;
use crate::opening;
use crate::questions::{self, Company};
use crate::registry::Inner;
use crate::state::{Event, State};

/// A session used within this time reconnects by itself; an older one waits for its next caller,
/// so that a dead server with many forgotten sessions is not dialled for nobody.
const EAGER_WITHIN: Duration = Duration::from_mins(5);
/// How long the last answers to a server may take before its connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Keeps one session to its end.
pub(crate) async fn run(inner: Arc<Inner>, entry: Arc<Entry>) {
    // Connections being closed, which a new one need not wait for; the end of the session does.
    let closing = TaskTracker::new();
    tokio::select! {
        () = live(&inner, &entry, &closing) => {}
        never = watch_time(&inner, &entry) => match never {},
        never = watch_stop(&inner, &entry) => match never {},
    }
    inner.roster().part(&entry);
    closing.close();
    closing.wait().await;
    inner.strike_out(&entry);
}

async fn live(inner: &Arc<Inner>, entry: &Arc<Entry>, closing: &TaskTracker) {
    loop {
        let state = entry.cell().state;
        match state {
            State::Opening { .. } => {
                let opened = opening::open(inner, entry, closing).await;
                if let Some((link, inbound)) = opened {
                    hold(inner, entry, &link, inbound).await;
                    closing.spawn(part(link));
                }
            }
            State::Backoff { until, again, .. } => pause(inner, entry, until, again).await,
            // Nobody but `hold` keeps a connection, and it left.
            State::Ready { .. } => {
                inner.step(entry, &mut entry.cell(), (Event::Lost, None));
            }
            State::Closed => return,
        }
    }
}

/// Keeps one connection until it is lost or no longer wanted.
async fn hold(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    link: &Arc<Link>,
    inbound: mpsc::Receiver<Inbound>,
) {
    let reason = tokio::select! {
        reason = link.connection.closed() => reason,
        () = unwanted(entry, link) => return,
        never = listen(inner, entry, link, inbound) => match never {},
        never = heartbeat::beat(inner, entry, link) => match never {},
    };
    let words = match reason {
        CloseReason::Asked => "the connection was closed".to_owned(),
        CloseReason::Exited(words) | CloseReason::Lost(words) => words,
    };
    let mut cell = entry.cell();
    if cell.has(link) {
        // Without the words, as at an opening that fails.
        tracing::info!(session.id = %entry.id, session.server = %entry.key.server, "session.lost");
        cell.last_error = Some(words.clone());
        inner.step(entry, &mut cell, (Event::Lost, Some(&words)));
    }
}

/// Resolves when the session no longer has this connection.
async fn unwanted(entry: &Entry, link: &Arc<Link>) {
    while entry.has(link) {
        entry.nudge.notified().await;
    }
}

/// Waits for the next try: at its own jittered time, or when a caller wants it.
async fn pause(inner: &Inner, entry: &Entry, until: Instant, again: bool) {
    tokio::select! {
        () = entry.nudge.notified() => return,
        () = sleep_until(until) => {}
    }
    let recent = entry.idle_for() < EAGER_WITHIN || entry.is_kept() || entry.is_used();
    // Whoever is still in a session that is leaving holds the lost connection; another would be for nobody.
    let reusable = !entry.is_leaving() && !entry.serves_one_call();
    if again && recent && reusable {
        inner.step(entry, &mut entry.cell(), (Event::Retry, None));
    } else {
        entry.nudge.notified().await;
    }
}

/// Takes what the server says by itself, and sends it the answers to what it asked.
async fn listen(
    inner: &Inner,
    entry: &Entry,
    link: &Link,
    mut inbound: mpsc::Receiver<Inbound>,
) -> Infallible {
    loop {
        tokio::select! {
            // Answers first: a server that asks without end waits for them.
            biased;
            (id, answer) = link.questions.next_answer() => link.connection.answer(id, answer).await,
            Some(message) = inbound.recv() => hear(inner, entry, link, message).await,
        }
    }
}

async fn hear(inner: &Inner, entry: &Entry, link: &Link, message: Inbound) {
    match message {
        Inbound::Request(request) if request.method == "ping" => {
            link.connection
                .answer(request.id, Ok(questions::alive()))
                .await;
        }
        Inbound::Request(request) => link.questions.ask(
            request,
            Company {
                shared: entry.key.user.is_none(),
                in_flight: entry.in_flight.load(Ordering::SeqCst),
            },
        ),
        Inbound::Notification(notification) => {
            let withdraws = notification.method == "notifications/cancelled";
            if withdraws && link.questions.withdraw(&notification) {
                return;
            }
            let (id, key) = (entry.id, entry.key.clone());
            // Nobody watching is fine.
            let _ = inner.notices.send(SessionNotice::Upstream {
                id,
                key,
                notification,
            });
        }
    }
}

/// Closes a connection, after the last answers.
async fn part(link: Arc<Link>) {
    link.questions.end();
    let farewell = async {
        while let Some((id, answer)) = link.questions.queued_answer() {
            link.connection.answer(id, answer).await;
        }
    };
    // A server that does not read hears no farewell.
    let _ = timeout(FAREWELL, farewell).await;
    link.connection.close().await;
}

/// Closes the session when its time is over and nobody uses it.
async fn watch_time(inner: &Inner, entry: &Entry) -> Infallible {
    loop {
        let Some(left) = entry.remaining(&inner.limits) else {
            entry.recheck.notified().await;
            continue;
        };
        if !left.is_zero() {
            tokio::select! {
                () = sleep(left) => {}
                () = entry.recheck.notified() => {}
            }
            continue;
        }
        if inner.evict(entry) {
            return pending().await;
        }
        entry.overdue.store(true, Ordering::SeqCst);
        // Given back before it was marked, nobody would wake us.
        if entry.is_used() {
            entry.recheck.notified().await;
        }
    }
}

/// Closes the session when all are closed.
async fn watch_stop(inner: &Inner, entry: &Entry) -> Infallible {
    inner.stop.cancelled().await;
    inner.end(entry, "shutting down");
    pending().await
}
