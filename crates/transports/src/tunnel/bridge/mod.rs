//! The bridge's half: one [`Agent`] over all its connections, and [`serve`] for each of those.

mod agent;
mod catalogue;
mod core;
mod link;
pub mod machine;
mod outcome;
mod serve;

pub use agent::{ACKED, Agent, AgentFacts, AgentOwner, Attendance, DROPPED, Invocation, OwnFuture};
pub use catalogue::{AgentCatalogue, CatalogueServer};
pub use machine::Fate;
pub use serve::{Admission, Door, Refused, ServeEnd, serve};
