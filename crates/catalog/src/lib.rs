//! Knows what each server offers and shows as little of it as will do.
//!
//! Knows no HTTP, no SQL and no policy. Everything but [`listing::fetch`] is pure.

pub mod entry;
pub mod index;
pub mod listing;
pub mod snapshot;

pub use entry::{Entry, Hash, Hints, Kind, Ref};
pub use index::{Index, Query, Ranked};
pub use listing::{FetchError, Listing};
pub use snapshot::{Delta, Snapshot};
