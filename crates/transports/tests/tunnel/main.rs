//! The bridge half of the tunnel, through its public face, against an agent that is played by hand.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod abuse;
mod calls;
mod lines;
mod played;
mod server;
