//! HTTP faces of the broker and the daemon's composition root.
//!
//! Turns requests into operations and answers into bytes; decides nothing about tools, servers or calls.
//! Without the feature `daemon` only [`wire`] is here.

#[cfg(feature = "daemon")]
mod answer;
#[cfg(feature = "daemon")]
pub mod app;
#[cfg(feature = "daemon")]
mod call_stream;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod demo;
#[cfg(feature = "daemon")]
pub mod documents;
#[cfg(feature = "daemon")]
mod event_stream;
#[cfg(feature = "daemon")]
mod first_key;
#[cfg(feature = "daemon")]
pub mod front;
#[cfg(all(feature = "daemon", any(test, feature = "fuzzing")))]
pub mod fuzzing;
#[cfg(feature = "daemon")]
pub mod local_runner;
#[cfg(feature = "daemon")]
pub mod logging;
#[cfg(feature = "daemon")]
pub mod mcp;
#[cfg(feature = "daemon")]
mod meters;
#[cfg(feature = "daemon")]
pub mod pages;
#[cfg(feature = "daemon")]
pub mod places;
#[cfg(feature = "daemon")]
pub mod problem;
#[cfg(feature = "daemon")]
mod reload;
#[cfg(feature = "daemon")]
pub mod routes;
#[cfg(feature = "daemon")]
pub mod serve;
#[cfg(feature = "daemon")]
mod suggestion;
#[cfg(feature = "daemon")]
mod traced;
#[cfg(feature = "daemon")]
mod tunnels;
pub mod wire;
