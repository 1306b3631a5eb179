//! Rotation: after a change of the configuration's key, the keys of values are wrapped anew. Values stay as they are.

use crate::error::BrokerError;
use crate::vault::Vault;

/// What a rotation found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rewrapped {
    /// Wrapped by the current key now.
    pub done: u64,
    /// Wrapped by a key nobody gave us, or changed by somebody.
    pub left: u64,
}

impl Vault {
    /// Wraps every value's key by the current key.
    ///
    /// # Errors
    /// `store_unavailable`; what was done stays done.
    pub(crate) async fn rewrap(&self) -> Result<Rewrapped, BrokerError> {
        let mut so_far = Rewrapped::default();
        let Some(keys) = &self.0.keys else {
            return Ok(so_far);
        };
        loop {
            let rows = self
                .0
                .store
                .sealed_by_others(keys.id(), so_far.left)
                .await?;
            if rows.is_empty() {
                return Ok(so_far);
            }
            for row in rows {
                match keys.rewrap(&row.place, row.version, &row.sealed) {
                    Ok(wrapped) if self.0.store.rewrap_sealed(&row, &wrapped).await? => {
                        so_far.done += 1;
                    }
                    // Changed meanwhile, so by the current key; or it cannot be opened and is passed over.
                    Ok(_) | Err(_) => so_far.left += 1,
                }
            }
        }
    }
}
