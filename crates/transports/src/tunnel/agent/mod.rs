//! The agent's half of the tunnel: it stands where the tools are, dials out, and runs what it is asked to.
//!
//! [`config`] is what it is run with, `servers` keeps and calls the MCP servers, [`spool`] is what it must not
//! forget, [`status`] how it is.

mod acts;
pub mod config;
pub mod configure;
pub mod dial;
mod line;
pub mod machine;
pub mod run;
mod servers;
pub mod spool;
pub mod status;

pub use config::{AgentConfig, AgentServer};
pub use dial::{DialError, Dialer, WebSocketDialer};
pub use run::{AgentError, run};
pub use spool::{Spool, SpoolError, SpoolLimits};
pub use status::{AgentStatus, LineState, ServerState, ServerStatus};
