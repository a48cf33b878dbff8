//! How much is sent: by a device, by a user, and to a chat; and how many chats a user begins.
//!
//! Devices and users are counted by the core of their session, chats and beginnings by the core of the chat. So the
//! limits of a user hold for each core of a node, and a chat has one place.

use columba_engine::env::Instant;
use columba_wire::{ChatId, DeviceAddress, UserId};

use super::limits::{
    BEGIN_BURST, BEGIN_EVERY, CHAT_SEND_BURST, CHAT_SEND_EVERY, RATE_KEYS_MAX, SEND_BURST, SEND_EVERY, USER_SEND_BURST,
    USER_SEND_EVERY,
};
use crate::rate::{RetryAfterMs, TokenBuckets};

/// The buckets of one core.
pub(crate) struct SendLimits {
    by_device: TokenBuckets<DeviceAddress>,
    by_user: TokenBuckets<UserId>,
    by_chat: TokenBuckets<ChatId>,
    beginnings: TokenBuckets<UserId>,
}

impl Default for SendLimits {
    fn default() -> Self {
        Self {
            by_device: TokenBuckets::every(SEND_BURST, SEND_EVERY, RATE_KEYS_MAX),
            by_user: TokenBuckets::every(USER_SEND_BURST, USER_SEND_EVERY, RATE_KEYS_MAX),
            by_chat: TokenBuckets::every(CHAT_SEND_BURST, CHAT_SEND_EVERY, RATE_KEYS_MAX),
            beginnings: TokenBuckets::every(BEGIN_BURST, BEGIN_EVERY, RATE_KEYS_MAX),
        }
    }
}

impl SendLimits {
    /// Counts a send of a device.
    ///
    /// # Errors
    /// The device, or all those of its user, have sent too much: when there may be more.
    pub(crate) fn take_sender(&mut self, sender: DeviceAddress, now: Instant) -> Result<(), RetryAfterMs> {
        self.by_device.take(sender, 1, now)?;
        self.by_user.take(sender.user, 1, now)
    }

    /// Counts a send to a chat.
    ///
    /// # Errors
    /// Too much is sent to it: when there may be more.
    pub(crate) fn take_chat(&mut self, chat: ChatId, now: Instant) -> Result<(), RetryAfterMs> {
        self.by_chat.take(chat, 1, now)
    }

    /// Counts a chat that a user begins.
    ///
    /// # Errors
    /// There are too many: when there may be another one.
    pub(crate) fn take_beginning(&mut self, user: UserId, now: Instant) -> Result<(), RetryAfterMs> {
        self.beginnings.take(user, 1, now)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use columba_wire::DeviceId;

    use super::*;

    fn device(user: u8, number: u32) -> DeviceAddress {
        DeviceAddress { user: UserId::from_bytes([user; 16]), device: DeviceId::new(number).unwrap() }
    }

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    #[test]
    fn the_devices_of_a_user_have_a_limit_each_and_one_together() {
        let mut limits = SendLimits::default();
        for number in [1, 2] {
            assert!((0..SEND_BURST).all(|_| limits.take_sender(device(1, number), at(0)).is_ok()));
        }
        assert_eq!(limits.take_sender(device(1, 1), at(0)), Err(RetryAfterMs(21)), "the device's");
        assert_eq!(limits.take_sender(device(1, 3), at(0)), Err(RetryAfterMs(11)), "the user's");
        assert!(limits.take_sender(device(2, 1), at(0)).is_ok(), "another user");
        assert!(limits.take_sender(device(1, 3), at(11)).is_ok());
        assert_eq!(limits.take_sender(device(1, 1), at(12)), Err(RetryAfterMs(9)), "nothing was taken");
    }

    #[test]
    fn a_chat_has_a_limit_whoever_sends() {
        let mut limits = SendLimits::default();
        let chat = |number| ChatId::from_bytes([number; 16]);
        assert!((0..CHAT_SEND_BURST).all(|_| limits.take_chat(chat(1), at(0)).is_ok()));
        assert_eq!(limits.take_chat(chat(1), at(0)), Err(RetryAfterMs(11)));
        assert!(limits.take_chat(chat(2), at(0)).is_ok());
        assert!(limits.take_chat(chat(1), at(10)).is_ok());
    }
}
