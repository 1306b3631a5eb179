//! Whether a database is silent, and when it is asked again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::Error;
use tokio::time::Instant;

use super::reach::{PATIENCE, silent};

/// How long a silent database is left alone: a request asks the store more than once, and only its first
/// question may cost [`PATIENCE`].
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Since when a database is silent, for all its pools.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence(Arc<Mutex<Option<Instant>>>);

impl Silence {
    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a question may be asked now. After a silence one caller at a time tries it.
    pub(super) fn check(&self) -> Result<(), Error> {
        let (mut until, now) = (self.until(), Instant::now());
        match *until {
            Some(end) if now < end => Err(silent()),
            Some(_) => {
                *until = Some(now + PATIENCE);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn begin(&self) {
        *self.until() = Some(Instant::now() + LEFT_ALONE);
    }

    pub(super) fn end(&self) {
        *self.until() = None;
    }
}
