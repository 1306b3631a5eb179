//! Decides, validates, runs and records every operation.
//!
//! Knows no axum, no status codes, no JSON-RPC codes, no cookies and no clap.

pub mod definition;
pub mod error;
pub mod events;
pub mod operations;
pub mod principal;
pub mod store;

pub use definition::{Definition, DefinitionError, Secrets};
pub use error::{BrokerError, ErrorCode, Fault, PointerDetail};
pub use operations::Broker;
pub use principal::{Principal, Role, Scopes};
pub use store::{Store, StoreError};
