//! The bridge's own agent (`runner: agent`): a process beside the daemon that keeps stdio servers and the calls on
//! them while the daemon crashes or is replaced.
//!
//! `agent` is that process; `keeper` is the daemon's side: it finds it or starts it, and serves its line.

pub mod agent;
mod keeper;
mod process;

pub(crate) use keeper::Keeper;
