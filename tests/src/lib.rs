//! Starts the real daemon and the real CLI against real MCP servers, and cleans up after itself.
//!
//! Owns processes, directories and ports of a test; never looks inside the daemon.

pub mod bridge;
pub mod chaos;
pub mod clients;
pub mod gate;
pub mod grants;
pub mod http;
pub mod peer;
pub mod postgres;
pub mod sqlite;
pub mod tls;
pub mod tunnel;
pub mod upstreams;

pub use bridge::{Bridge, BridgeOptions, CliOutput};
pub use http::{Reply, request};
pub use upstreams::Upstream;

use std::time::Duration;

/// How long anything in a test may take before the test is called stuck. Generous: no test measures speed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Asks again every 20 ms until `probe` gives something, at most [`PATIENCE`].
///
/// # Panics
/// When nothing came in time, with `what`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
