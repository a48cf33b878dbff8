//! The people this profile has met: names, presence, what of them is unread.

use std::collections::BTreeMap;

use columba_wire::{MessageSeq, UserId};

use super::text::{printable, short_id};
use crate::{limits::CHAT_PEOPLE_MAX, types::Presence};

/// What is known of somebody.
#[derive(Debug, Default)]
pub(super) struct Person {
    handle: Option<String>,
    /// Messages shown while somebody else was chosen.
    pub(super) unread: u32,
    /// The newest message shown.
    pub(super) newest: MessageSeq,
    /// As it was told last.
    pub(super) presence: Option<Presence>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct People {
    people: BTreeMap<UserId, Person>,
}

impl People {
    /// A handle was learnt.
    pub(super) fn learn(&mut self, user: UserId, handle: &str) {
        self.people.entry(user).or_default().handle = Some(printable(handle.as_bytes()));
    }

    /// The entry of somebody; `None` where there are too many strangers.
    pub(super) fn meet(&mut self, user: UserId) -> Option<&mut Person> {
        if self.people.len() >= CHAT_PEOPLE_MAX && !self.people.contains_key(&user) {
            return None;
        }
        Some(self.people.entry(user).or_default())
    }

    /// What is known of somebody.
    pub(super) fn get(&self, user: UserId) -> Option<&Person> {
        self.people.get(&user)
    }

    /// Whether somebody has a name.
    pub(super) fn has_name(&self, user: UserId) -> bool {
        self.people.get(&user).is_some_and(|person| person.handle.is_some())
    }

    /// The handle of somebody, or the first digits of the id.
    pub(super) fn name(&self, user: UserId) -> String {
        self.people.get(&user).and_then(|person| person.handle.clone()).unwrap_or_else(|| short_id(user))
    }

    /// Who has this handle, or else whose id begins so, as it is shown of people without a handle.
    pub(super) fn find(&self, text: &str) -> Option<UserId> {
        let named = |person: &Person| person.handle.as_deref() == Some(text);
        if let Some((user, _)) = self.people.iter().find(|(_, person)| named(person)) {
            return Some(*user);
        }
        if text.len() < 8 {
            return None;
        }
        let mut alike = self
            .people
            .iter()
            .filter(|(user, person)| person.handle.is_none() && user.to_string().starts_with(text))
            .map(|(user, _)| *user);
        alike.next().filter(|_| alike.next().is_none())
    }

    /// Everybody, by name.
    pub(super) fn by_name(&self) -> Vec<(String, UserId, &Person)> {
        let mut people: Vec<_> = self.people.iter().map(|(user, person)| (self.name(*user), *user, person)).collect();
        people.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        people
    }

    /// Takes what is unread: whose, and up to which message.
    pub(super) fn take_unread(&mut self) -> Vec<(UserId, MessageSeq)> {
        let mut unread = Vec::new();
        for (user, person) in &mut self.people {
            if core::mem::take(&mut person.unread) > 0 {
                unread.push((*user, person.newest));
            }
        }
        unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u8) -> UserId {
        UserId::from_bytes([n; 16])
    }

    #[test]
    fn a_stranger_is_found_by_the_digits_that_were_shown_and_nobody_else_is() {
        let mut people = People::default();
        people.meet(user(0x1a));
        people.learn(user(0x2b), "bob");
        assert_eq!(people.name(user(0x1a)), "1a1a1a1a");
        assert_eq!(people.find("1a1a1a1a"), Some(user(0x1a)));
        assert_eq!(people.find("1a1a1a"), None, "too short to be sure");
        assert_eq!(people.find("bob"), Some(user(0x2b)));
        assert_eq!(people.find("2b2b2b2b"), None, "who has a handle is called by it");
        let mut twin = [0x1a; 16];
        twin[15] = 0;
        people.meet(UserId::from_bytes(twin));
        assert_eq!(people.find("1a1a1a1a"), None, "it could be either");
        assert_eq!(people.find(&user(0x1a).to_string()), Some(user(0x1a)));
    }

    #[test]
    fn strangers_are_bounded_and_names_are_printable() {
        let mut people = People::default();
        for n in 0..=CHAT_PEOPLE_MAX as u128 {
            people.meet(UserId::from_bytes(n.to_be_bytes()));
        }
        assert_eq!(people.by_name().len(), CHAT_PEOPLE_MAX);
        people.learn(user(0xff), "b\u{1b}[31mob");
        assert_eq!(people.name(user(0xff)), "b␛[31mob");
    }
}
