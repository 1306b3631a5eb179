//! Keeps live connections by key: opens on demand, keeps alive, evicts when idle, reconnects, drains.
//!
//! Knows no HTTP, no SQL, no policy and no tool.

pub mod error;
pub mod inspect;
mod keeper;
pub mod key;
pub mod registry;
pub mod session;
pub mod state;

pub use error::OpenError;
pub use inspect::{Inspection, SessionNotice, StateName};
pub use key::{Caller, InvalidId, Isolation, Lane, SessionId, SessionKey, UserId, WorkspaceId};
pub use registry::{ReconnectPolicy, SessionLimits, Sessions, Target};
pub use session::{Session, SessionLease};
