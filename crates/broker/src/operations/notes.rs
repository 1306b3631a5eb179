//! What a face remembers of its clients across restarts. Its own business: nothing here is read by the broker.

use super::Broker;
use crate::error::{BrokerError, ErrorCode, Fault};

/// Longest note, in bytes.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;

impl Broker {
    /// Keeps a note under a name, in the place of an earlier one; `None` forgets it. One that nobody keeps anew is
    /// forgotten after a month.
    ///
    /// # Errors
    /// `payload_too_large` over [`MAX_NOTE_BYTES`]; `store_unavailable`.
    pub async fn remember(&self, name: &str, note: Option<&str>) -> Result<(), BrokerError> {
        let store = &self.inner.store;
        match note {
            Some(note) if note.len() > MAX_NOTE_BYTES => {
                let detail = format!("a note has at most {MAX_NOTE_BYTES} bytes");
                Err(Fault::new(ErrorCode::PayloadTooLarge, detail))
            }
            Some(note) => Ok(store.put_note(name, note).await?),
            None => Ok(store.drop_note(name).await?),
        }
    }

    /// The note under a name.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn recall(&self, name: &str) -> Result<Option<String>, BrokerError> {
        Ok(self.inner.store.note(name).await?)
    }
}
