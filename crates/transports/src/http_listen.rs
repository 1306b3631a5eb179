//! Listens for what a legacy HTTP server says by itself: the GET stream. (A modern one: `listen`.)
//!
//! One task for each connection, stopped with it. Reconnects with a bounded backoff for as long as the
//! server offers a stream at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::http_core::Core;
use crate::http_stream::{self, Opened, Place, Reader, is_message};
use crate::wire;

/// First pause before a lost stream is opened again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Shortest pause between two polls of a server that ends its streams; each one holds a connection.
const SHORTEST_POLL: Duration = Duration::from_millis(200);
/// A stream that lived so long worked; the next loss starts the backoff anew.
const STEADY: Duration = Duration::from_secs(10);

/// Listens until the carrier stops.
pub(crate) async fn listen(core: &Arc<Core>) {
    let mut changes = core.speeches();
    let mut place = Place::new();
    let mut pause = BACKOFF.0;
    let mut missed = false;
    loop {
        let speech = Arc::clone(&changes.borrow_and_update());
        // Boxed: a task that lives as long as its session must not hold the room of one exchange.
        match Box::pin(http_stream::open(core, &speech, place.last_id.as_deref())).await {
            Opened::Stream(reader) => {
                if std::mem::take(&mut missed) && place.last_id.is_none() {
                    core.announce_possible_change();
                }
                let since = Instant::now();
                tokio::select! {
                    () = hear(core, reader, &mut place) => {}
                    // A new session: the old one's stream says nothing any more.
                    _ = changes.changed() => {
                        place = Place::new();
                        continue;
                    }
                }
                if since.elapsed() >= STEADY {
                    pause = BACKOFF.0;
                    missed = true;
                }
                if let Some(retry) = place.retry {
                    // No loss: a server that says when to come back wants to be polled.
                    // A little later than that, so that not all its sessions come at once.
                    let retry = retry.max(SHORTEST_POLL);
                    tokio::time::sleep(retry.mul_f64(rand::random_range(1.0..=1.2))).await;
                    continue;
                }
            }
            Opened::Refused => {
                // None is offered; another session may be another server.
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Opened::Failed => missed = true,
        }
        tokio::time::sleep(place.retry.unwrap_or(Duration::ZERO).max(jittered(pause))).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Between half and the whole, so that the sessions of a restarted server do not come all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

/// Hands on what comes until the stream ends.
async fn hear(core: &Arc<Core>, mut reader: Reader, place: &mut Place) {
    // An event over the bound ends the stream like a break: what follows it cannot be read.
    while let Ok(Some(mut event)) = reader.next().await {
        place.note(&mut event);
        if !is_message(&event) {
            continue;
        }
        match wire::parse(&event.data) {
            Ok(message) => Box::pin(core.deliver(message)).await,
            Err(_) => {
                core.garbage.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
