//! When to connect again: exponential, with jitter, and never earlier than the server asks.

use core::time::Duration;

use crate::limits::{RECONNECT_ASKED_MAX, RECONNECT_MAX, RECONNECT_MIN};

/// Counts failures since the last session that got through.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A session got through.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now. `random` is any number: it spreads clients that lost the same server.
    pub(crate) fn next(&mut self, asked: Duration, random: u64) -> Duration {
        let full = (RECONNECT_MIN * 2u32.saturating_pow(self.failures.min(16))).min(RECONNECT_MAX);
        self.failures += 1;
        let own = spread(full / 2, full, random).max(RECONNECT_MIN);
        let asked = asked.min(RECONNECT_ASKED_MAX);
        own.max(spread(asked, asked + asked / 4, random))
    }
}

fn spread(from: Duration, to: Duration, random: u64) -> Duration {
    let span = u64::try_from((to - from).as_micros()).unwrap_or(u64::MAX);
    from + Duration::from_micros(if span == 0 { 0 } else { random % span })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_shrink_after_success() {
        let mut backoff = Backoff::default();
        for n in 0..40 {
            let wait = backoff.next(Duration::ZERO, n * 7_919);
            assert!(wait >= RECONNECT_MIN && wait <= RECONNECT_MAX, "{wait:?}");
        }
        assert!(backoff.next(Duration::ZERO, 3) >= RECONNECT_MAX / 2);
        backoff.reset();
        assert_eq!(backoff.next(Duration::ZERO, u64::MAX), RECONNECT_MIN);
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_ever() {
        let mut backoff = Backoff::default();
        assert!(backoff.next(Duration::from_secs(5), 1) >= Duration::from_secs(5));
        assert!(backoff.next(Duration::MAX, 1) <= RECONNECT_ASKED_MAX * 2);
    }
}
