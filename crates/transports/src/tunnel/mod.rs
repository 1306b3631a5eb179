//! The tunnel between the bridge and the agents that stand where the tools are (`design/tunnel.md`).
//!
//! Owns the frames, their bounds, and both halves of the protocol as pure state machines. Knows no user,
//! no token's meaning and no ledger: those are asked through [`bridge::Door`] and [`bridge::AgentOwner`].

pub mod agent;
mod batch;
pub mod bridge;
mod carrier;
pub mod frame;
pub mod id;
pub mod limits;
pub mod local_socket;
pub mod socket;

pub(crate) use carrier::TunnelCarrier;
pub use frame::{BadFrame, Frame, Kind, Payload};
pub use id::{AgentId, InvalidAgentId, InvalidReqId, ReqId};
pub use limits::{PROTOCOL, SUBPROTOCOL};
pub use local_socket::LocalSocket;
pub use socket::{FrameSocket, SocketError};
