//! Decides, validates, runs and records every operation.
//!
//! Knows no axum, no status codes, no JSON-RPC codes, no cookies and no clap.

pub mod agents;
mod arguments;
pub mod asker;
mod call;
pub mod call_state;
mod catalogue;
pub mod definition;
pub mod error;
pub mod events;
mod example;
mod gate;
mod instant;
mod jwt;
pub mod keys;
pub mod ledger;
pub mod limits;
mod meters;
pub mod operations;
mod policy;
pub mod principal;
mod registry;
pub mod store;
mod store_fault;
pub mod trace;
mod upstream_fault;

pub use agents::{AgentDoor, LOCAL_AGENT, LocalRunner, LocalServer};
pub use asker::Asker;
pub use call::CallId;
pub use call::dialogue::{Happening, InputAnswer, InputRequest};
pub use call::follow::CallRun;
pub use call_state::CallState;
pub use definition::{Author, Definition, DefinitionError, Secrets};
pub use error::{BrokerError, ErrorCode, Fault, PointerDetail, UpstreamRpc};
pub use limits::{CallLimits, CatalogLimits};
pub use operations::{Broker, BrokerOptions};
pub use principal::{Principal, Role, Scopes};
pub use store::{Store, StoreError};
pub use trace::Trace;
