//! What a failure of the store means to a caller.

use std::time::Duration;

use crate::error::{BrokerError, ErrorCode, Fault};
use crate::store::StoreError;

/// When to try again after the store was away.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl From<StoreError> for BrokerError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(_)
            | StoreError::Shared(_)
            | StoreError::Url
            | StoreError::Migrate(_) => {
                tracing::error!(error = %error, source = ?std::error::Error::source(&error).map(ToString::to_string), "the store failed");
                let mut fault =
                    Fault::new(ErrorCode::StoreUnavailable, "the store cannot be used now");
                fault.retry_after = Some(RETRY_AFTER);
                fault
            }
            StoreError::Corrupt(_) => {
                tracing::error!(error = %error, "the store holds what cannot be read");
                Fault::new(ErrorCode::Internal, "the store holds what cannot be read")
            }
        }
    }
}
