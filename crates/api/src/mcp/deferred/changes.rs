//! When what `/mcp` lists changes: looked at after the catalogue moved, told only when the list did.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use broker::operations::face::CatalogueWatch;
use tokio::time::Instant;

use crate::mcp::visit::Visit;

/// Changes of many servers at once are looked at together.
const GATHER: Duration = Duration::from_secs(1);

/// Watches the list of one client.
#[derive(Debug)]
pub(in crate::mcp) struct Changes {
    visit: Visit,
    catalogues: CatalogueWatch,
    told: u64,
    /// When to look, once something moved.
    look_at: Option<Instant>,
}

impl Changes {
    /// From now on.
    pub(in crate::mcp) async fn of(visit: &Visit) -> Self {
        // Watched before it is looked at: what changes meanwhile is seen.
        let catalogues = visit.app.broker.watch_catalogues(&visit.asker);
        Self {
            told: fingerprint(visit).await,
            visit: visit.clone(),
            catalogues,
            look_at: None,
        }
    }

    /// Resolves when the list is another; `None` when nothing will be told any more. Cancel safe.
    pub(in crate::mcp) async fn next(&mut self) -> Option<()> {
        loop {
            let look_at = self.look_at;
            tokio::select! {
                moved = self.catalogues.next() => {
                    moved?;
                    self.look_at.get_or_insert_with(|| Instant::now() + GATHER);
                }
                () = tokio::time::sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    let now = fingerprint(&self.visit).await;
                    self.look_at = None;
                    if std::mem::replace(&mut self.told, now) != now {
                        return Some(());
                    }
                }
            }
        }
    }
}

async fn fingerprint(visit: &Visit) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Ok(list) = super::list::tools(visit).await {
        list.hash(&mut hasher);
    }
    hasher.finish()
}
