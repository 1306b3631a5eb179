//! The supervisor alone, for this crate's own tests; the real programs re-execute themselves.

fn main() {
    transports::supervise::run_if_supervisor();
}
