//! Knows what each server offers and shows as little of it as will do.
//!
//! Knows no HTTP, no SQL and no policy. Everything but [`listing::fetch`] is pure.

pub mod bounds;
mod clean;
mod definition;
pub mod effort;
pub mod entry;
mod example;
mod hash;
mod header_annotations;
pub mod index;
mod json;
pub mod listing;
mod look_alike;
mod nearness;
mod schema;
mod search;
mod shape;
pub mod snapshot;
mod summary;

pub use clean::revealed;
pub use definition::MAX_NAME_BYTES;
pub use entry::{Entry, Hash, Hints, Kind, Ref};
pub use index::{Index, Query, Ranked};
pub use listing::{FetchError, Listing};
pub use look_alike::name_skeleton;
pub use shape::MAX_SHAPE_CHARS;
pub use snapshot::{Delta, Snapshot};
pub use summary::MAX_SUMMARY_CHARS;
