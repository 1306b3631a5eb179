//! Keeps live connections by key: opens on demand, keeps alive, evicts when idle, reconnects, drains.
//!
//! Knows no HTTP, no SQL, no policy and no tool.

mod entrance;
mod entry;
pub mod error;
mod exit;
mod heartbeat;
pub mod inspect;
mod keeper;
pub mod key;
pub mod limits;
mod opening;
pub mod questions;
pub mod registry;
mod roster;
pub mod session;
pub mod state;

pub use error::OpenError;
pub use inspect::{Inspection, SessionNotice, StateName};
pub use key::{Caller, InvalidId, Isolation, Lane, SessionId, SessionKey, UserId, WorkspaceId};
pub use limits::{ReconnectPolicy, SessionLimits};
pub use questions::{Answer, Question};
pub use registry::{Sessions, Target};
pub use session::{Session, SessionLease};
