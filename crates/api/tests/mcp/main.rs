//! The MCP endpoints through a real daemon, with clients and servers of both eras.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod client;
mod deferred;
mod dialogue;
#[path = "../kit/mod.rs"]
mod kit;
mod notices;
mod old_sse;
mod passing;
mod refusals;
mod sessions;
mod tasks;
mod upstream;
