//! Agents through a real daemon: a small agent that speaks the frames over a real WebSocket, and nothing else of
//! the bridge's own code.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod agent;
mod calls;
mod coming;
#[path = "../kit/mod.rs"]
mod kit;
mod names;
mod pairing;
mod restarts;
