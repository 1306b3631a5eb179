//! Tokens in use, one cell for each holder and server address. What waits for a newer token waits here.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use crate::definition::Learnt;
use crate::vault::Holder;

/// Cells kept; a session whose cell was dropped keeps it for itself.
const MAX_CELLS: u64 = 10_000;

/// All cells of this process.
pub(in crate::vault) struct GrantCells(moka::sync::Cache<(Holder, String), Arc<Cell>>);

impl std::fmt::Debug for GrantCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GrantCells({})", self.0.entry_count())
    }
}

/// One holder's token for one server at one address.
pub(in crate::vault) struct Cell {
    pub(super) holder: Holder,
    pub(super) server: Url,
    /// The tokens, for taking them out of what the server says.
    pub(in crate::vault) tokens: Learnt,
    held: ArcSwapOption<Held>,
    /// Who asks for a newer token does so alone; the others wait and find what came of it.
    pub(super) renewing: Semaphore,
}

/// What is known at the moment.
struct Held {
    /// `None`: there is none, as far as was looked.
    token: Option<SecretString>,
    until: Instant,
}

impl GrantCells {
    pub(in crate::vault) fn new() -> Self {
        Self(moka::sync::Cache::new(MAX_CELLS))
    }

    pub(in crate::vault) fn cell(&self, holder: &Holder, server: &Url) -> Arc<Cell> {
        let key = (holder.clone(), server.to_string());
        self.0.get_with(key, || {
            Arc::new(Cell {
                holder: holder.clone(),
                server: server.clone(),
                tokens: Learnt::default(),
                held: ArcSwapOption::empty(),
                renewing: Semaphore::new(1),
            })
        })
    }

    /// What a holder has is looked up again.
    pub(in crate::vault) fn forget(&self, holder: &Holder) {
        for (key, cell) in &self.0 {
            if key.0 == *holder {
                cell.held.store(None);
            }
        }
    }
}

impl Cell {
    /// What is held and still good; the inner `None` says that there is no token.
    #[expect(
        clippy::option_option,
        reason = "not known, and known not to be there, differ"
    )]
    pub(in crate::vault) fn good(&self) -> Option<Option<SecretString>> {
        let held = self.held.load();
        let held = held.as_ref().filter(|held| Instant::now() < held.until)?;
        Some(held.token.clone())
    }

    /// The same for whoever was refused with a token: another one, or the news that there is none.
    #[expect(
        clippy::option_option,
        reason = "not known, and known not to be there, differ"
    )]
    pub(super) fn good_beside(
        &self,
        refused: Option<&SecretString>,
    ) -> Option<Option<SecretString>> {
        let same = |token: &Option<SecretString>| match (token, refused) {
            (Some(token), Some(refused)) => token.expose_secret() == refused.expose_secret(),
            _ => false,
        };
        self.good().filter(|token| !same(token))
    }

    pub(super) fn hold(&self, token: Option<SecretString>, good_for: Duration) {
        let until = Instant::now() + good_for;
        self.held.store(Some(Arc::new(Held { token, until })));
    }
}
