//! One call, from the wish to its one terminal state (rulings.md § Order of checks).

pub(crate) mod admit;
mod adopt;
pub(crate) mod core_tasks;
pub(crate) mod dialogue;
mod exchange;
mod find;
pub(crate) mod follow;
mod gated;
#[cfg(feature = "measuring")]
pub(crate) mod guards;
mod held;
mod id;
pub(crate) mod live;
mod naming;
pub(crate) mod outcome;
mod questions;
mod ready;
pub(crate) mod recent;
mod repeat;
mod rounds;
pub(crate) mod run;
mod server_tasks;
pub(crate) mod task_owners;
pub(crate) mod telling;
mod unfinished;
mod verdict;

pub use id::CallId;
