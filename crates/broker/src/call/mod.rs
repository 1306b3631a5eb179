//! One call, from the wish to its one terminal state (rulings.md § Order of checks).

pub(crate) mod admit;
mod find;
mod id;
pub(crate) mod live;
pub(crate) mod outcome;
mod repeat;
pub(crate) mod run;
mod telling;

pub use id::CallId;
