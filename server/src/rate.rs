//! Token buckets, and tables of them by key, which are bounded.
//!
//! A bucket is kept as one number, the time at which it will be full again (the "generic cell rate algorithm"): taking
//! a token moves that time by the interval between two tokens. A bucket that is full again says nothing and is dropped.
//!
//! Invariants
//! - The table never has more than `keys_max` buckets; a new key beyond that takes the place of the fullest.
//! - `by_key` and `by_time` hold the same buckets.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use columba_engine::env::Instant;
use columba_wire::{Code, v1};

/// Milliseconds after which the same request may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetryAfterMs(pub u32);

impl RetryAfterMs {
    /// What a client is told.
    pub fn to_error(self) -> v1::Error {
        let code = Code::RateLimited;
        v1::Error { code: code.number(), message: code.name().to_owned(), retry_after_ms: self.0 }
    }
}

/// Token buckets by key.
#[derive(Clone, Debug)]
pub struct TokenBuckets<K> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
    interval: Duration,
    burst: u32,
    keys_max: usize,
}

impl<K: Ord + Clone> TokenBuckets<K> {
    /// Buckets of `burst` tokens that fill with `per_second`, for at most `keys_max` keys. None of them is 0.
    pub fn new(burst: u32, per_second: u32, keys_max: usize) -> Self {
        assert!(per_second > 0, "a bucket fills");
        Self::every(burst, Duration::from_secs(1) / per_second, keys_max)
    }

    /// The same with a token in each `interval`.
    pub fn every(burst: u32, interval: Duration, keys_max: usize) -> Self {
        assert!(burst > 0 && !interval.is_zero() && keys_max > 0, "a bucket lets something through");
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new(), interval, burst, keys_max }
    }

    /// Whether [`Self::take`] would give a token of `key` without another key being forgotten for it.
    ///
    /// # Errors
    /// When it may: where the table is full, when the fullest bucket leaves it.
    pub fn check(&self, key: &K, now: Instant) -> Result<(), RetryAfterMs> {
        let Some(full_at) = self.by_key.get(key) else {
            let fullest = self.by_time.first().filter(|_| self.by_key.len() >= self.keys_max);
            return fullest.map_or(Ok(()), |(full_at, _)| retry_after(full_at.saturating_since(now)));
        };
        taken(Some(*full_at), 1, self.burst, self.interval, now).map(drop)
    }

    /// Takes `n` tokens of `key`, or none. Cost: logarithmic in the number of keys.
    ///
    /// # Errors
    /// There are fewer than `n`: when there will be (never, if `n` exceeds the burst).
    pub fn take(&mut self, key: K, n: u32, now: Instant) -> Result<(), RetryAfterMs> {
        self.forget_full(now);
        let before = self.by_key.get(&key).copied();
        let full_at = taken(before, n, self.burst, self.interval, now)?;
        match before {
            Some(before) => {
                self.by_time.remove(&(before, key.clone()));
            }
            None if self.by_key.len() >= self.keys_max => {
                if let Some((_, fullest)) = self.by_time.pop_first() {
                    self.by_key.remove(&fullest);
                }
            }
            None => {}
        }
        self.by_key.insert(key.clone(), full_at);
        self.by_time.insert((full_at, key));
        debug_assert!(self.by_key.len() == self.by_time.len(), "a bucket is in both");
        Ok(())
    }

    /// Keys that have a bucket now.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether all buckets are full.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Drops a few buckets that are full again: two for each call, so that the table shrinks while it is used.
    fn forget_full(&mut self, now: Instant) {
        for _ in 0..2 {
            if self.by_time.first().is_none_or(|(full_at, _)| *full_at > now) {
                return;
            }
            if let Some((_, key)) = self.by_time.pop_first() {
                self.by_key.remove(&key);
            }
        }
    }
}

/// When a bucket of `burst` tokens, which will be full at `full_at` or is, will be full once `n` are taken out of it.
fn taken(
    full_at: Option<Instant>,
    n: u32,
    burst: u32,
    interval: Duration,
    now: Instant,
) -> Result<Instant, RetryAfterMs> {
    let full_at = full_at.unwrap_or(now).max(now) + interval * n;
    retry_after(full_at.saturating_since(now).saturating_sub(interval * burst))?;
    Ok(full_at)
}

/// No wait is no error.
fn retry_after(wait: Duration) -> Result<(), RetryAfterMs> {
    if wait.is_zero() {
        return Ok(());
    }
    Err(RetryAfterMs(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).saturating_add(1)))
}

/// What limits are counted by: an IPv4 address, or the /64 of an IPv6 address, which one customer has to himself.
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) if address.is_loopback() => IpAddr::V6(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let mut buckets = TokenBuckets::new(3, 2, 10);
        assert!((0..3).all(|_| buckets.take("a", 1, at(0)).is_ok()));
        assert_eq!(buckets.take("a", 1, at(0)), Err(RetryAfterMs(501)));
        assert!(buckets.take("b", 3, at(0)).is_ok(), "another key has its own bucket");
        assert!(buckets.take("a", 1, at(500)).is_ok());
        assert!(buckets.take("a", 1, at(501)).is_err());
        assert!(buckets.take("a", 3, at(10_000)).is_ok(), "it never holds more than the burst");
        assert!(buckets.take("a", 1, at(10_000)).is_err());
        assert!(buckets.take("c", 4, at(10_000)).is_err(), "more than the burst is never there");
    }

    #[test]
    fn a_flood_of_keys_keeps_the_emptiest_buckets() {
        let mut buckets = TokenBuckets::new(4, 1, 8);
        assert!(buckets.take(0, 4, at(0)).is_ok());
        for key in 1..1_000 {
            assert!(buckets.take(key, 1, at(1)).is_ok());
            assert!(buckets.len() <= 8);
        }
        assert!(buckets.take(0, 1, at(2)).is_err(), "the one that had used most is not forgotten");
        assert!(buckets.take(5, 1, at(60_000)).is_ok());
        assert!(buckets.len() <= 8);
    }

    #[test]
    fn an_ipv6_customer_is_one_key() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:0:1::5"), key("2001:db8:0:1:ffff::6"));
        assert_ne!(key("2001:db8:0:1::5"), key("2001:db8:0:2::5"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
