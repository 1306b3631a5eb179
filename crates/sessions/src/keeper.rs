//! Does for sessions what their state asks for: connects, listens, pings, waits, closes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transports::{CloseReason, ConnectError, ConnectOptions, Connection, Inbound, ServerRequest};

use crate::error::OpenError;
use crate::inspect::SessionNotice;
use crate::key::Isolation;
use crate::registry::{Admission, Inner, admission};
use crate::session::{Cell, Entry};
use crate::state::{Event, Moment, State};

/// Messages of one server waiting to be looked at.
const INBOUND: usize = 64;
/// How often the sweeper looks at every session.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a heartbeat may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats under way at once, over all sessions.
const MAX_PINGS: usize = 64;
/// A session used within this time reconnects by itself; an older one waits for its next caller,
/// so that a dead server with many forgotten sessions is not dialled for nobody.
const EAGER_WITHIN: Duration = Duration::from_mins(5);

/// Applies an event; true when the state changed.
fn apply(inner: &Inner, cell: &mut Cell, event: Event) -> bool {
    let moment = Moment {
        now: Instant::now(),
        jitter: rand::random(),
        policy: &inner.limits.reconnect,
    };
    let next = cell.state.after(event, moment);
    let changed = next != cell.state;
    if next.name() != cell.state.name() {
        cell.since = SystemTime::now();
    }
    cell.state = next;
    changed
}

/// Tells watchers and waiters about the state.
pub(crate) fn announce(inner: &Inner, entry: &Entry, reason: Option<String>) {
    let state = entry.cell().state.name();
    entry.changed.send_modify(|count| *count += 1);
    // Nobody watching is fine.
    let _ = inner.notices.send(SessionNotice::State {
        id: entry.id,
        key: entry.key.clone(),
        state,
        reason,
    });
}

/// Lets a caller in, starts what must be started, or says why not; `None` = wait for a change.
/// `waited`: this caller already waited for an attempt, so a failure is his answer.
pub(crate) fn look(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    waited: bool,
) -> Option<Result<(Arc<Connection>, u64), OpenError>> {
    let mut cell = entry.cell();
    match admission(cell.state, Instant::now()) {
        Admission::In => match &cell.connection {
            Some(connection) => Some(Ok((Arc::clone(connection), cell.generation))),
            None => None,
        },
        Admission::Wait => None,
        Admission::Try(event) => {
            apply(inner, &mut cell, event);
            drop(cell);
            announce(inner, entry, None);
            start_opening(inner, entry);
            None
        }
        Admission::Later(retry_after) => {
            let source = cell
                .last_failure
                .clone()
                .unwrap_or_else(|| Arc::new(lost_error(&cell)));
            Some(Err(if waited {
                OpenError::Connect(source)
            } else {
                OpenError::BackingOff {
                    retry_after,
                    source,
                }
            }))
        }
        Admission::Over => {
            let source = cell
                .last_failure
                .clone()
                .unwrap_or_else(|| Arc::new(lost_error(&cell)));
            Some(Err(OpenError::Connect(source)))
        }
    }
}

fn lost_error(cell: &Cell) -> ConnectError {
    let detail = cell
        .last_error
        .clone()
        .unwrap_or_else(|| "the session was closed".to_owned());
    ConnectError::Unreachable { detail }
}

/// Connects in a task of its own: it goes on when the caller who wanted it gives up.
pub(crate) fn start_opening(inner: &Arc<Inner>, entry: &Arc<Entry>) {
    let (inner_, entry) = (Arc::clone(inner), Arc::clone(entry));
    inner.tasks.spawn(async move {
        let inner = inner_;
        let (sender, inbound) = mpsc::channel(INBOUND);
        let options = ConnectOptions { known_era: inner.known_era(&entry), inbound: sender };
        let opened = tokio::select! {
            opened = transports::connect(&entry.target.spec, options) => opened,
            () = inner.stop.cancelled() => return,
        };
        match opened {
            Ok(connection) => connected(&inner, &entry, connection, inbound).await,
            Err(error) => {
                inner.learn_era(&entry, None);
                let text = error.to_string();
                tracing::info!(session.id = %entry.id, session.server = %entry.key.server, error = text, "session.open failed");
                let over = {
                    let mut cell = entry.cell();
                    cell.last_failure = Some(Arc::new(error));
                    cell.last_error = Some(text.clone());
                    apply(&inner, &mut cell, Event::Failed);
                    cell.state == State::Closed
                };
                if over {
                    inner.forget(&entry);
                }
                announce(&inner, &entry, Some(text));
            }
        }
    });
}

async fn connected(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    connection: Arc<Connection>,
    inbound: mpsc::Receiver<Inbound>,
) {
    inner.learn_era(entry, Some(connection.info().era));
    let ready = {
        let mut cell = entry.cell();
        apply(inner, &mut cell, Event::Connected);
        let ready = matches!(cell.state, State::Ready { .. });
        if ready {
            cell.generation += 1;
            cell.reconnects = cell.generation - 1;
            cell.connection = Some(Arc::clone(&connection));
            cell.last_failure = None;
            cell.pinged_at = Instant::now();
        }
        ready
    };
    if !ready {
        // Closed while it was connecting.
        connection.close().await;
        return;
    }
    announce(inner, entry, None);
    let keeper = keep(
        Arc::downgrade(inner),
        Arc::clone(entry),
        connection,
        inbound,
    );
    inner.tasks.spawn(keeper);
}

/// Listens to one connection until it ends.
async fn keep(
    inner: Weak<Inner>,
    entry: Arc<Entry>,
    connection: Arc<Connection>,
    mut inbound: mpsc::Receiver<Inbound>,
) {
    let closed = connection.closed();
    tokio::pin!(closed);
    let reason = loop {
        tokio::select! {
            reason = &mut closed => break reason,
            Some(message) = inbound.recv() => match message {
                Inbound::Request(request) => answer(&connection, request).await,
                Inbound::Notification(notification) => {
                    let Some(inner) = inner.upgrade() else { return };
                    let (id, key) = (entry.id, entry.key.clone());
                    let _ = inner.notices.send(SessionNotice::Upstream { id, key, notification });
                }
            },
        }
    };
    if let Some(inner) = inner.upgrade() {
        lost(&inner, &entry, &connection, reason).await;
    }
}

/// What the bridge itself answers a server that asks. Nobody is listening yet, so nothing may wait:
/// issue of the passing-through of elicitation and sampling starts here.
async fn answer(connection: &Connection, request: ServerRequest) {
    let raw = |text: &str| {
        RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
    };
    let outcome = match request.method.as_str() {
        "ping" => Ok(raw("{}")),
        "roots/list" => Ok(raw("{\"roots\":[]}")),
        "elicitation/create" => Ok(raw("{\"action\":\"decline\"}")),
        _ => Err((-32601, "the client does not offer this".to_owned())),
    };
    connection.answer(request.id, outcome).await;
}

async fn lost(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    connection: &Arc<Connection>,
    reason: CloseReason,
) {
    let words = match reason {
        CloseReason::Asked => return,
        CloseReason::Exited(words) | CloseReason::Lost(words) => words,
    };
    let over = {
        let mut cell = entry.cell();
        let current = cell
            .connection
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, connection));
        if !current {
            return;
        }
        cell.connection = None;
        cell.last_error = Some(words.clone());
        apply(inner, &mut cell, Event::Lost);
        cell.state == State::Closed
    };
    tracing::info!(session.id = %entry.id, session.server = %entry.key.server, reason = words, "session.lost");
    if over {
        inner.forget(entry);
    }
    announce(inner, entry, Some(words));
    // What is left of the process tree goes too.
    connection.close().await;
}

/// Ends a session for good; its process or socket is gone when this returns.
pub(crate) async fn close(inner: &Inner, entry: &Entry, reason: &str) {
    let connection = {
        let mut cell = entry.cell();
        if !apply(inner, &mut cell, Event::Close) {
            return;
        }
        cell.last_error.get_or_insert_with(|| reason.to_owned());
        cell.connection.take()
    };
    if let Some(connection) = connection {
        connection.close().await;
    }
    announce(inner, entry, Some(reason.to_owned()));
}

/// Drops the connection of a session and opens another.
pub(crate) fn refresh(inner: &Arc<Inner>, entry: &Arc<Entry>) {
    let old = {
        let mut cell = entry.cell();
        if !apply(inner, &mut cell, Event::Refresh) {
            return;
        }
        cell.connection.take()
    };
    announce(inner, entry, Some("refreshed".to_owned()));
    if let Some(old) = old {
        inner.tasks.spawn(async move { old.close().await });
    }
    start_opening(inner, entry);
}

/// Looks at every session once a second: idle, too old, due for a heartbeat, due for a reconnect.
pub(crate) async fn sweep(inner: Weak<Inner>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let pings = Arc::new(Semaphore::new(MAX_PINGS));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let Some(inner) = inner.upgrade() else { return };
        for entry in inner.entries() {
            attend(&inner, &entry, &pings);
        }
    }
}

fn attend(inner: &Arc<Inner>, entry: &Arc<Entry>, pings: &Arc<Semaphore>) {
    let limits = &inner.limits;
    if entry.is_over(limits.idle, limits.ttl) {
        inner.evict(entry);
        return;
    }
    let mut cell = entry.cell();
    match cell.state {
        State::Backoff { again: true, .. }
            if entry.idle_for() < EAGER_WITHIN || entry.is_kept() =>
        {
            if apply(inner, &mut cell, Event::Retry) {
                drop(cell);
                announce(inner, entry, None);
                start_opening(inner, entry);
            }
        }
        State::Ready { .. }
            if !limits.heartbeat.is_zero() && entry.target.isolation != Isolation::Call =>
        {
            let due = cell.pinged_at.elapsed() >= limits.heartbeat;
            let (true, Some(connection)) = (due, cell.connection.clone()) else {
                return;
            };
            // All permits taken: this one's turn comes with the next sweep.
            let Ok(permit) = Arc::clone(pings).try_acquire_owned() else {
                return;
            };
            cell.pinged_at = Instant::now();
            drop(cell);
            let (inner_, entry) = (Arc::clone(inner), Arc::clone(entry));
            inner.tasks.spawn(async move {
                ping(&inner_, &entry, &connection).await;
                drop(permit);
            });
        }
        State::Backoff { .. } | State::Ready { .. } | State::Opening { .. } | State::Closed => {}
    }
}

async fn ping(inner: &Arc<Inner>, entry: &Arc<Entry>, connection: &Arc<Connection>) {
    let answered = tokio::select! {
        answered = connection.ping(PING_TIMEOUT) => answered,
        () = inner.stop.cancelled() => return,
    };
    let (event, words) = match &answered {
        Ok(()) => (Event::PingAnswered, None),
        Err(error) => (Event::PingMissed, Some(format!("heartbeat: {error}"))),
    };
    let (changed, gave_up) = {
        let mut cell = entry.cell();
        if !cell
            .connection
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, connection))
        {
            return;
        }
        if answered.is_ok() {
            cell.last_ping = Some(SystemTime::now());
        } else {
            cell.last_error.clone_from(&words);
        }
        // A server that is busy with a call may answer no ping (many are single-threaded): as long as
        // something is in flight it only counts as degraded, and the call's own deadline decides.
        let busy = entry.in_flight.load(Ordering::SeqCst) > 0;
        let missed_before = matches!(cell.state, State::Ready { missed: 1.., .. });
        let changed = !(busy && missed_before && event == Event::PingMissed)
            && apply(inner, &mut cell, event);
        let gave_up = changed && matches!(cell.state, State::Backoff { .. } | State::Closed);
        if gave_up {
            cell.connection = None;
        }
        (changed, gave_up)
    };
    if changed {
        announce(inner, entry, words);
    }
    if gave_up {
        if entry.cell().state == State::Closed {
            inner.forget(entry);
        }
        connection.close().await;
    }
}
