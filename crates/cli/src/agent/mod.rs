//! The agent's own side of things: its file, its state directory, its log. What it does once it runs is
//! `transports::tunnel::agent`'s.

pub(crate) mod check;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod find;
pub(crate) mod home;
pub(crate) mod kind;
pub(crate) mod log;
pub(crate) mod setting;
pub(crate) mod shown;

#[cfg(test)]
mod tests;
