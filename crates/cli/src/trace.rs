//! Trace ids of our own making, as W3C Trace Context writes them. Not for secrets.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _};

/// A trace id that no other process is likely to have.
#[must_use]
pub(crate) fn id() -> String {
    random_hex(2)
}

/// A `traceparent` of a new span of a trace.
#[must_use]
pub(crate) fn parent(trace_id: &str) -> String {
    format!("00-{trace_id}-{}-01", random_hex(1))
}

/// `words` × 16 hex digits.
fn random_hex(words: usize) -> String {
    (0..words).fold(String::new(), |mut text, word| {
        // Each `RandomState` has keys of its own, drawn from the system's randomness.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_usize(word);
        hasher.write_u32(std::process::id());
        let _ = write!(text, "{:016x}", hasher.finish().max(1));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_have_32_digits_and_differ() {
        let (one, two) = (id(), id());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
        assert_eq!(parent(&one).len(), 55);
    }
}
