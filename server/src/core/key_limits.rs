//! How fast one-time keys may be taken: whoever takes all of a device's keys makes others begin with its fallback.
//!
//! Invariants
//! - A refused take costs nothing: tokens are taken from both buckets, or from none.
//! - Fail closed: where the tables have no room for another key, who is not in them is refused.

use columba_engine::env::Instant;
use columba_wire::UserId;

use super::limits::{KEYS_ASKER_BURST, KEYS_ASKER_EVERY, KEYS_TARGET_BURST, KEYS_TARGET_EVERY, RATE_KEYS_MAX};
use crate::rate::{RetryAfterMs, TokenBuckets};

/// Who took keys lately, from the users of one core.
pub(crate) struct KeyLimits {
    by_target: TokenBuckets<(UserId, UserId)>,
    by_asker: TokenBuckets<UserId>,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self::new(RATE_KEYS_MAX)
    }
}

impl KeyLimits {
    fn new(keys_max: usize) -> Self {
        Self {
            by_target: TokenBuckets::every(KEYS_TARGET_BURST, KEYS_TARGET_EVERY, keys_max),
            by_asker: TokenBuckets::every(KEYS_ASKER_BURST, KEYS_ASKER_EVERY, keys_max),
        }
    }

    /// Whether `asker` may take keys of `target` now.
    ///
    /// # Errors
    /// When it may.
    pub(crate) fn take(&mut self, asker: UserId, target: UserId, now: Instant) -> Result<(), RetryAfterMs> {
        let pair = (asker, target);
        self.by_target.check(&pair, now)?;
        self.by_asker.check(&asker, now)?;
        self.by_target.take(pair, 1, now)?;
        self.by_asker.take(asker, 1, now)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const fn user(n: u8) -> UserId {
        UserId::from_bytes([n; 16])
    }

    #[test]
    fn who_drains_one_user_is_stopped_and_others_are_not() {
        let (mut limits, now) = (KeyLimits::new(100), Instant::START);
        for _ in 0..KEYS_TARGET_BURST {
            assert_eq!(limits.take(user(1), user(2), now), Ok(()));
        }
        let RetryAfterMs(wait) = limits.take(user(1), user(2), now).unwrap_err();
        assert_eq!(wait, 600_001);
        assert_eq!(limits.take(user(3), user(2), now), Ok(()), "another asker");
        assert_eq!(limits.take(user(1), user(4), now), Ok(()), "another target");
        let later = now + Duration::from_millis(wait.into());
        assert_eq!(limits.take(user(1), user(2), later), Ok(()), "what was told is true");
        assert!(limits.take(user(1), user(2), later).is_err());
    }

    #[test]
    fn who_drains_everybody_is_stopped_and_pays_nothing_for_being_refused() {
        let (mut limits, now) = (KeyLimits::new(100), Instant::START);
        let targets = || (10u8..).map(user);
        for target in targets().take(60) {
            assert_eq!(limits.take(user(1), target, now), Ok(()));
        }
        for _ in 0..10 {
            assert_eq!(limits.take(user(1), user(9), now), Err(RetryAfterMs(60_001)));
        }
        let later = now + Duration::from_secs(61);
        assert_eq!(limits.take(user(1), user(9), later), Ok(()));
    }

    #[test]
    fn a_full_table_refuses_strangers() {
        let (mut limits, now) = (KeyLimits::new(3), Instant::START);
        for asker in 1..=3 {
            assert_eq!(limits.take(user(asker), user(9), now), Ok(()));
        }
        assert!(limits.take(user(4), user(9), now).is_err());
        assert_eq!(limits.take(user(1), user(9), now), Ok(()), "who is known goes on");
        assert_eq!(limits.take(user(4), user(9), now + Duration::from_secs(3_600)), Ok(()));
    }
}
