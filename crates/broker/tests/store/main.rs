//! The store, on both databases. PostgreSQL must be there: `make test` starts one.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod agents;
mod approvals;
mod contract;
mod pins;
mod places;
mod sealed;
mod silent;
mod trouble;
