//! What the broker does by itself: rows past their retention are removed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::call::recent::Recent;
use crate::store::{LOST_ROWS, Store};

/// Time between two rounds.
const PAUSE: Duration = Duration::from_mins(1);
/// Time between two small removals of one round, so that calls get at the store in between.
const BREATH: Duration = Duration::from_millis(100);

/// What is kept up.
struct Kept {
    store: Store,
    /// How long rows are kept.
    retention: Duration,
    recent: Arc<Recent>,
}

/// Starts the rounds; they end with `stop`. What was lost is counted where it is lost; here the counter begins.
pub(super) fn start(
    (store, retention): (&Store, Duration),
    recent: &Arc<Recent>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) {
    let kept = Kept {
        store: store.clone(),
        retention,
        recent: Arc::clone(recent),
    };
    metrics::describe_counter!(
        LOST_ROWS,
        "Rows of the ledger and runs of events that were lost"
    );
    metrics::counter!(LOST_ROWS).increment(0);
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = rounds(kept) => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn rounds(kept: Kept) {
    let Kept {
        store,
        retention,
        recent,
    } = kept;
    loop {
        tokio::time::sleep(PAUSE).await;
        recent.expire();
        loop {
            match store.prune(retention).await {
                Ok(true) => tokio::time::sleep(BREATH).await,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(error = %error, "old rows could not be removed; trying again later");
                    break;
                }
            }
        }
    }
}
