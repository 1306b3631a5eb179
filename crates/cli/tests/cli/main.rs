//! The real `paperbot-mcp` against a small HTTP server that answers like the bridge.
#![expect(
    clippy::unwrap_used,
    reason = "in a test what cannot be had is a failure"
)]

mod agent;
mod arguments;
mod bridge;
mod call;
mod connect;
mod doctor;
mod errors;
mod face;
mod find;
mod host;
mod import;
mod input;
mod interrupt;
mod others;
mod program;
mod pump;
mod skill;
mod terminal;
mod truncation;
