//! Who waits to hear that a row is on disk, where nobody waits for it to be answered.

use std::sync::Arc;

use crate::call::live::Live;

/// A call whose end an agent keeps until the ledger has it.
#[derive(Debug)]
pub(crate) struct Written(Arc<Live>);

impl Written {
    pub(crate) fn new(live: &Arc<Live>) -> Self {
        Self(Arc::clone(live))
    }

    /// The row is committed.
    pub(crate) fn tell(&self) {
        self.0.acknowledge();
    }
}
