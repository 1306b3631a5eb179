//! The audit chain: what an entry says, how entries hang together, what is signed, and what verifying finds.
//! Knows no SQL; rows are numbered and hashed by the store's writer as it commits them.

mod entry;
mod keeper;
mod link;
mod policy;
mod signed;
mod verify;

pub use entry::Entry;
pub(crate) use entry::{End, Line, Times, executed};
pub(crate) use keeper::Keeper;
pub use link::Link;
pub use policy::OnUnavailable;
pub use signed::{Place, PlaceKind, SignedPlace};
pub(crate) use signed::{Signer, public_key_text};
pub use verify::Verified;
pub(crate) use verify::Walk;
