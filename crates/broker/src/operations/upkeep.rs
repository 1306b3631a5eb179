//! What the broker does by itself: rows past their retention are removed, and what was lost is counted.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::Store;

/// Time between two rounds.
const PAUSE: Duration = Duration::from_mins(1);
/// Time between two small removals of one round, so that calls get at the store in between.
const BREATH: Duration = Duration::from_millis(100);

/// Starts the rounds; they end with `stop`.
pub(super) fn start(
    store: &Store,
    retention: Duration,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) {
    let (store, stop) = (store.clone(), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = rounds(store, retention) => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn rounds(store: Store, retention: Duration) {
    let lost = metrics::counter!("paperbot_store_rows_lost_total");
    loop {
        tokio::time::sleep(PAUSE).await;
        lost.absolute(store.lost_rows());
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
