//! Link codes of the devices that wait to be linked. A core has those that hash to it, in memory alone: who waits
//! begins anew after a restart.
//!
//! Invariants
//! - A code is good for [`LINK_MS_MAX`], and for one use: [`LinkTable::take`] is the only way to it, and takes it out.
//! - There are at most [`LINKS_MAX`] of them: a newer one takes the place of the oldest.
//! - `by_code` and `by_time` hold the same codes.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use columba_engine::env::Instant;
use columba_wire::{UserId, limits::LINK_MS_MAX, link::LinkCode};

use super::{
    limits::{LINK_BURST, LINK_EVERY, LINKS_MAX, RATE_KEYS_MAX},
    message::SessionRef,
};
use crate::rate::TokenBuckets;

/// A device that wants to be linked, as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Its key, which it has signed with.
    pub key: [u8; 32],
    /// How it calls itself.
    pub name: String,
    /// Its client, as it calls itself.
    pub agent: String,
}

/// A device that waits, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its connection.
    pub session: SessionRef,
    /// Who it is.
    pub device: NewDevice,
}

/// What a core knows of links.
pub(crate) struct Links {
    pub(crate) table: LinkTable,
    /// By address, of devices that begin.
    pub(crate) begun: TokenBuckets<IpAddr>,
    /// By user, of those who look.
    pub(crate) looked: TokenBuckets<UserId>,
}

impl Default for Links {
    fn default() -> Self {
        let begun = TokenBuckets::every(LINK_BURST, LINK_EVERY, RATE_KEYS_MAX);
        let looked = TokenBuckets::every(LINK_BURST, LINK_EVERY, RATE_KEYS_MAX);
        Self { table: LinkTable::default(), begun, looked }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LinkTable {
    by_code: BTreeMap<LinkCode, (Instant, Waiting)>,
    by_time: BTreeSet<(Instant, LinkCode)>,
}

impl LinkTable {
    /// A device waits under this code. False where another one does: take another code.
    pub(crate) fn open(&mut self, code: LinkCode, waiting: Waiting, now: Instant) -> bool {
        self.expire(now);
        if self.by_code.contains_key(&code) {
            return false;
        }
        if self.by_code.len() >= LINKS_MAX
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.by_code.remove(&oldest);
        }
        let until = now + Duration::from_millis(LINK_MS_MAX);
        self.by_code.insert(code, (until, waiting));
        self.by_time.insert((until, code));
        debug_assert!(self.by_code.len() == self.by_time.len(), "a code is in both");
        true
    }

    /// Who waits under this code.
    pub(crate) fn look(&mut self, code: LinkCode, now: Instant) -> Option<&NewDevice> {
        self.expire(now);
        self.by_code.get(&code).map(|(_, waiting)| &waiting.device)
    }

    /// The one with this key that waits under this code; the code is used up.
    pub(crate) fn take(&mut self, code: LinkCode, key: &[u8; 32], now: Instant) -> Option<Waiting> {
        self.expire(now);
        let (until, _) = self.by_code.get(&code).filter(|(_, waiting)| waiting.device.key == *key)?;
        self.by_time.remove(&(*until, code));
        self.by_code.remove(&code).map(|(_, waiting)| waiting)
    }

    fn expire(&mut self, now: Instant) {
        while let Some((until, code)) = self.by_time.first().copied()
            && until <= now
        {
            self.by_time.pop_first();
            self.by_code.remove(&code);
        }
    }
}

#[cfg(test)]
mod tests {
    use columba_engine::ids::CoreId;

    use super::*;
    use crate::core::message::SessionId;

    fn code(n: usize) -> LinkCode {
        LinkCode::from_random(n.to_be_bytes()[3..].try_into().unwrap())
    }

    fn waiting(n: u8) -> Waiting {
        let session = SessionRef { core: CoreId::ZERO, session: SessionId(n.into()) };
        Waiting { session, device: NewDevice { key: [n; 32], name: "laptop".to_owned(), agent: "test/1".to_owned() } }
    }

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    #[test]
    fn a_code_is_used_once_and_by_its_key_alone() {
        let mut links = LinkTable::default();
        assert!(links.open(code(1), waiting(1), at(0)));
        assert!(!links.open(code(1), waiting(2), at(0)), "the first one keeps it");
        assert_eq!(links.look(code(1), at(1)), Some(&waiting(1).device));
        assert_eq!(links.look(code(2), at(1)), None);
        assert_eq!(links.take(code(1), &[2; 32], at(1)), None);
        assert_eq!(links.take(code(1), &[1; 32], at(1)), Some(waiting(1)));
        assert_eq!(links.take(code(1), &[1; 32], at(1)), None);
        assert_eq!(links.look(code(1), at(1)), None);
    }

    #[test]
    fn a_code_expires() {
        let mut links = LinkTable::default();
        assert!(links.open(code(1), waiting(1), at(0)));
        assert!(links.open(code(2), waiting(2), at(10)));
        assert!(links.look(code(1), at(LINK_MS_MAX - 1)).is_some());
        assert_eq!(links.take(code(1), &[1; 32], at(LINK_MS_MAX)), None);
        assert!(links.open(code(1), waiting(3), at(LINK_MS_MAX)), "it may be given again");
        assert!(links.take(code(2), &[2; 32], at(LINK_MS_MAX + 9)).is_some());
    }

    #[test]
    fn a_flood_of_codes_displaces_the_oldest() {
        let mut links = LinkTable::default();
        for n in 0..=LINKS_MAX {
            assert!(links.open(code(n), waiting(1), at(n as u64 / 1000)));
        }
        assert_eq!((links.by_code.len(), links.by_time.len()), (LINKS_MAX, LINKS_MAX));
        assert!(links.look(code(0), at(5)).is_none() && links.look(code(1), at(5)).is_some());
    }
}
