//! Users' credentials through the real daemon: secrets of the store, and grants at an authorization server.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

#[path = "../kit/mod.rs"]
mod kit;

mod grants;
mod secrets;
mod world;
