//! What happens to calls while no audit entry can be written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `audit.on_unavailable`: what a store that cannot be used means for new calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnavailable {
    /// Calls that may act are refused; others go on and are recorded once the store is back, within a bound.
    #[default]
    RefuseDangerous,
    /// As soon as the store is known to be away, no call is accepted.
    RefuseAll,
    /// Calls that may act go on, too, and are recorded later; but not those whose idempotency key or later
    /// result only the store could keep.
    Allow,
}
