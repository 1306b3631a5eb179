//! Wall-clock times as they stand on the wire and in the store: RFC 3339, UTC, milliseconds.

use chrono::{DateTime, SecondsFormat, Utc};

/// `2026-11-21T07:00:00.000Z`.
#[must_use]
pub(crate) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
