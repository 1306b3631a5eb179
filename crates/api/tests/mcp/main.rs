//! The MCP endpoints through a real daemon, with clients and servers of both eras.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod client;
mod core_tasks;
mod deferred;
mod deferred_tasks;
mod dialogue;
mod jobs;
#[path = "../kit/mod.rs"]
mod kit;
mod lists;
mod notices;
mod old_sse;
mod passing;
mod refusals;
mod sessions;
mod task_refusals;
mod tasks;
mod upstream;
