//! Tries to sign in, counted by address, so that nobody guesses on. Keys are too long to be guessed; this keeps the
//! noise down.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker::{ErrorCode, Fault};
use moka::sync::Cache;

use crate::problem::Refused;

/// Tries of one address within [`WINDOW`]: a person who mistypes needs fewer.
const MAX_TRIES: u32 = 10;
/// How long a try is remembered.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses remembered; over it the least used are forgotten.
const MAX_ADDRESSES: u64 = 10_000;
/// Bits of an IPv6 address its holder cannot choose.
const V6_PREFIX_BITS: u32 = 64;

/// Who tried to sign in of late.
#[derive(Debug)]
pub struct LoginTries(Cache<IpAddr, Arc<AtomicU32>>);

impl LoginTries {
    /// Nobody did.
    #[must_use]
    pub fn new() -> Self {
        let cache = Cache::builder().max_capacity(MAX_ADDRESSES);
        Self(cache.time_to_live(WINDOW).build())
    }

    /// Counts a try before it is looked at.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn begin(&self, address: IpAddr) -> Result<(), Refused> {
        let tries = self.0.get_with(holder(address), Arc::default);
        // Saturates: a counter that begins anew would let in.
        let before = tries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tries| {
            Some(tries.saturating_add(1))
        });
        if before.unwrap_or(MAX_TRIES) < MAX_TRIES {
            return Ok(());
        }
        let mut fault = Fault::new(ErrorCode::RateLimited, "too many tries to sign in");
        fault.retry_after = Some(WINDOW);
        Err(fault.into())
    }

    /// A try was good: its address begins anew.
    pub fn succeeded(&self, address: IpAddr) {
        self.0.invalidate(&holder(address));
    }
}

impl Default for LoginTries {
    fn default() -> Self {
        Self::new()
    }
}

/// Whoever holds an IPv6 address holds its whole network.
fn holder(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (u128::BITS - V6_PREFIX_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_tries_and_a_good_one_gives_them_back() {
        let tries = LoginTries::new();
        let [one, same, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
            .map(|text| text.parse::<IpAddr>().unwrap());
        for _ in 0..MAX_TRIES {
            tries.begin(one).unwrap();
        }
        assert_eq!(
            tries.begin(same).unwrap_err().code(),
            ErrorCode::RateLimited
        );
        tries.begin(other).unwrap();
        tries.succeeded(one);
        tries.begin(one).unwrap();
    }
}
