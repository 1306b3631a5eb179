//! Random secrets, their digests, and the comparison that takes as long for a wrong one as for a right one.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    bytes
}

/// SHA-256 of a secret, as it stands in the store.
pub(crate) fn hex_of(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// Whether a secret is the one a digest remembers. Without a digest the same work is done, for nothing.
pub(crate) fn matches(secret: &str, kept: Option<&str>) -> bool {
    let given = hex_of(secret);
    let nothing = "0".repeat(given.len());
    let expected = kept.unwrap_or(&nothing);
    let equal: bool = given.as_bytes().ct_eq(expected.as_bytes()).into();
    equal && kept.is_some()
}
