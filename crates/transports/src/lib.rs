//! Reaches a server and speaks MCP to it.
//!
//! Owns the wire: JSON-RPC envelopes are parsed, `params` and `result` stay raw bytes
//! (`docs/ARCHITECTURE.md`, decision 1). Knows no user, no workspace, no policy and no SQL;
//! secrets arrive as values.

mod carrier;
pub mod connection;
pub mod error;
pub mod fetch;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handshake;
mod http_answer;
mod http_bearer;
mod http_call;
mod http_client;
mod http_core;
mod http_headers;
mod http_listen;
mod http_notices;
mod http_pool;
mod http_session;
mod http_stream;
mod legacy_sse;
mod listen;
mod mirrored_params;
pub mod name;
mod open;
pub mod outbound;
pub mod pending;
mod pipe;
pub mod sandbox;
pub mod spec;
mod sse;
mod stderr_ring;
mod stdio;
mod streamable_http;
pub mod supervise;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod told;
mod tree;
pub mod tunnel;
pub mod wire;
mod wishes;

pub use connection::{ConnectOptions, Connection, Inbound, PeerInfo, ProcessFacts, Supervision};
pub use error::{CloseReason, ConnectError, Executed, RequestError};
pub use mirrored_params::{Mirror, mirrors};
pub use name::{InvalidServerName, MAX_SERVER_NAME_BYTES, ServerName};
pub use open::{connect, connect_unless};
pub use sandbox::{Level, Sandbox, SandboxFacts};
pub use spec::{
    Bearer, Endpoint, Era, EraChoice, HttpSpec, InProcess, OutboundPolicy, ServerSpec, StdioSpec,
    Timeouts, TunnelSpec, WireLimits,
};
pub use stdio::is_inherited;
pub use wire::{LogLevel, Notification, Params, Request, RequestId, ResultHead, ServerRequest};
