//! Keeps live connections by key: opens on demand, keeps alive, evicts when idle, reconnects, drains.
//!
//! Knows no HTTP, no SQL, no policy and no tool.

pub mod error;
pub mod inspect;
pub mod key;
pub mod registry;

pub use error::OpenError;
pub use inspect::{Inspection, SessionNotice, StateName};
pub use key::{Caller, InvalidId, Isolation, Lane, SessionId, SessionKey, UserId, WorkspaceId};
pub use registry::{ReconnectPolicy, Session, SessionLease, SessionLimits, Sessions, Target};
