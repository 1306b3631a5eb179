//! Who comes in, with what and from where, through a real daemon: every kind of credential, and every way round it.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod issuer;
mod keys;
#[path = "../kit/mod.rs"]
mod kit;
mod logins;
mod places;
mod streams;
mod tenants;
mod walk;
