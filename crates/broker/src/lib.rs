//! Decides, validates, runs and records every operation.
//!
//! Knows no axum, no status codes, no JSON-RPC codes, no cookies and no clap.

pub mod access;
pub mod agents;
mod approvals;
mod arguments;
pub mod asker;
pub mod audit;
mod call;
pub mod call_state;
mod catalogue;
mod checkers;
pub mod definition;
pub mod error;
pub mod events;
mod example;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gate;
mod instant;
pub mod issuer;
mod jwt;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod logins;
mod meters;
pub mod operations;
mod pins;
pub mod policy;
pub mod principal;
pub mod redaction;
mod registry;
pub mod store;
mod store_fault;
pub mod trace;
mod upstream_fault;
pub mod vault;

pub use access::{AccessOptions, Credential};
pub use agents::{AgentDoor, LOCAL_AGENT, LocalRunner, LocalServer};
pub use approvals::{ApprovalId, ApprovalState};
pub use asker::Asker;
pub use call::CallId;
pub use call::dialogue::{Happening, InputAnswer, InputRequest};
pub use call::follow::CallRun;
#[cfg(feature = "measuring")]
pub use call::guards::Guards;
pub use call_state::CallState;
pub use definition::{Author, Definition, DefinitionError, Secrets};
pub use error::{BrokerError, ErrorCode, Fault, PointerDetail, UpstreamRpc};
pub use gate::{CircuitView, RateStanding};
pub use limits::{BreakerLimits, CallLimits, CatalogLimits, Rate, Rates};
pub use operations::{Broker, BrokerOptions};
pub use principal::{Principal, Role, Scopes};
pub use store::{Store, StoreError};
pub use trace::Trace;
pub use vault::{SealingKeys, VaultOptions};
