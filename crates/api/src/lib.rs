//! api
pub mod wire {}
