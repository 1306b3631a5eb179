//! The real `paperbot-mcp` against a small HTTP server that answers like the bridge.
#![expect(
    clippy::unwrap_used,
    reason = "in a test what cannot be had is a failure"
)]

mod arguments;
mod bridge;
mod call;
mod connect;
mod doctor;
mod errors;
mod find;
mod import;
mod interrupt;
mod others;
mod program;
mod terminal;
mod truncation;
