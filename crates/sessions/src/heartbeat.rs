//! Asks each connected server in turn whether it still answers.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use transports::RequestError;

use crate::entry::{Entry, Link};
use crate::registry::Inner;
use crate::state::{Event, State};

/// How long a heartbeat may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats under way at once, over all sessions. Many times what 10,000 live servers need, so that hundreds
/// of dead ones, each holding its place for [`PING_TIMEOUT`], do not starve the living.
pub(crate) const MAX_PINGS: usize = 1024;

/// Pings a connection once per interval for as long as this is polled. The first ping comes at a random point of
/// the interval: sessions opened together are not pinged together.
pub(crate) async fn beat(inner: &Inner, entry: &Entry, link: &Arc<Link>) -> Infallible {
    let every = inner.limits.heartbeat;
    if every.is_zero() || entry.serves_one_call() {
        return pending().await;
    }
    let first = Instant::now() + every.mul_f64(rand::random());
    let mut ticks = interval_at(first, every);
    // A late one does not shift those after it: each session keeps its place in the interval.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Ok(place) = inner.pings.acquire().await else {
            return pending().await;
        };
        // On the heap: an exchange's state is large, and a session is mostly not in one.
        let answered = Box::pin(link.connection.ping(PING_TIMEOUT)).await;
        drop(place);
        judge(inner, entry, link, &answered);
    }
}

fn judge(inner: &Inner, entry: &Entry, link: &Arc<Link>, answered: &Result<(), RequestError>) {
    let mut cell = entry.cell();
    if !cell.has(link) {
        return;
    }
    let Err(error) = answered else {
        cell.last_ping = Some(SystemTime::now());
        inner.step(entry, &mut cell, (Event::PingAnswered, None));
        return;
    };
    let words = format!("heartbeat: {error}");
    cell.last_error = Some(words.clone());
    // A server that is busy with a call may answer no ping (many are single-threaded): as long as
    // something is in flight it only counts as degraded, and the call's own deadline decides.
    let missed_before = matches!(cell.state, State::Ready { missed: 1.., .. });
    if !(entry.is_used() && missed_before) {
        inner.step(entry, &mut cell, (Event::PingMissed, Some(&words)));
    }
}
