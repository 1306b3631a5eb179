//! HTTP faces of the broker and the daemon's composition root.
//!
//! Turns requests into operations and answers into bytes; decides nothing about tools, servers or calls.

pub mod wire;
