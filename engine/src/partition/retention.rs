//! Retention: how long a message is kept, and which messages are dead.
//!
//! A message is *dead* when every device of every member has it and the chat keeps nothing longer (its seq is at or
//! below the chat's `deleted_up_to`), or when its days are over (its time is below `expired_before_ms`). Nothing is
//! deleted row by row: reads leave dead messages out, a flush does not write them, a merge drops them.
//!
//! | decided by | when | moves |
//! |---|---|---|
//! | `Command::Advance` | the members' `everywhere` moves, in a chat that keeps until delivered | the chat's `deleted_up_to` |
//! | `Command::Expire` | the leader says what time it is | the partition's expiry clock |
//! | `Command::SetRetention` | an operator says so | both, at once |
//!
//! Invariants
//! - A [`Floor`] only rises, whatever retention is set later: what was dead stays dead, so replicas agree on what can
//!   be read although one has dropped a row that another still has.
//! - A floor follows from the applied log alone, never from a clock or from which rows are in files.
//! - `deleted_up_to` is at most every member's `covered`: no fan-out still needs what it deletes.

use bytes::Bytes;
use columba_wire::{ChatId, Code, MessageSeq};

use super::{
    State,
    chat::{Chat, ChatRow},
    codec::{Put as _, Take},
    effect::Outcome,
};
use crate::error::{Error, Result};

/// Days that a message is kept at most where it is kept until it is delivered, and nothing else was said.
pub const UNTIL_DELIVERED_DAYS: u32 = 30;
/// Days that a retention may name: a century. More is "for ever".
pub const RETENTION_DAYS_MAX: u32 = 36_500;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How long messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Until every device of every member has acknowledged them, and so many days at the latest.
    UntilDelivered {
        /// At the latest.
        days: u32,
    },
    /// So many days, or for ever.
    History {
        /// `None`: for ever.
        days: Option<u32>,
    },
}

impl Default for Retention {
    fn default() -> Self {
        Self::History { days: None }
    }
}

impl Retention {
    /// The days after which a message is dead in any case; `None` where there are none.
    pub const fn days(self) -> Option<u32> {
        match self {
            Self::UntilDelivered { days } => Some(days),
            Self::History { days } => days,
        }
    }

    /// Whether its days are from 1 to [`RETENTION_DAYS_MAX`].
    pub fn is_valid(self) -> bool {
        self.days().is_none_or(|days| (1..=RETENTION_DAYS_MAX).contains(&days))
    }

    /// Messages before this time are dead when the expiry clock stands at `expired_at_ms`.
    fn expired_before_ms(self, expired_at_ms: u64) -> u64 {
        self.days().map_or(0, |days| expired_at_ms.saturating_sub(u64::from(days) * DAY_MS))
    }
}

const NOT_SAID: u8 = 0;
const UNTIL_DELIVERED: u8 = 1;
const FOR_EVER: u8 = 2;
const HISTORY: u8 = 3;

/// Five bytes: a tag, and days where the tag has some.
pub(super) fn put_retention(retention: Option<Retention>, out: &mut Vec<u8>) {
    assert!(retention.is_none_or(Retention::is_valid), "days are checked where they come in: {retention:?}");
    let tag = match retention {
        None => NOT_SAID,
        Some(Retention::UntilDelivered { .. }) => UNTIL_DELIVERED,
        Some(Retention::History { days: None }) => FOR_EVER,
        Some(Retention::History { days: Some(_) }) => HISTORY,
    };
    out.put_u8(tag);
    out.put_u32(retention.and_then(Retention::days).unwrap_or_default());
}

/// Beside the tag: a timer follows.
const TIMER: u8 = 4;

/// How long a chat's messages are kept, and after how many seconds what is written disappears, or 0.
pub(super) fn put_retention_and_timer(retention: Option<Retention>, timer_s: u32, out: &mut Vec<u8>) {
    let tag = out.len();
    put_retention(retention, out);
    if timer_s != 0 {
        out[tag] |= TIMER;
        out.put_u32(timer_s);
    }
}

pub(super) fn take_retention_and_timer(take: &mut Take) -> Result<(Option<Retention>, u32)> {
    let (tag, days) = (take.take_u8()?, take.take_u32()?);
    let timer_s = if tag & TIMER == TIMER { take.take_u32()? } else { 0 };
    if timer_s == 0 && tag & TIMER == TIMER {
        return Err(Error::Malformed { what: "timer", reason: "it is of no seconds" });
    }
    Ok((retention_of(tag & !TIMER, days)?, timer_s))
}

pub(super) fn take_retention(take: &mut Take) -> Result<Option<Retention>> {
    let (tag, days) = (take.take_u8()?, take.take_u32()?);
    retention_of(tag, days)
}

fn retention_of(tag: u8, days: u32) -> Result<Option<Retention>> {
    let retention = match (tag, days) {
        (NOT_SAID, 0) => None,
        (FOR_EVER, 0) => Some(Retention::History { days: None }),
        (UNTIL_DELIVERED, days) => Some(Retention::UntilDelivered { days }),
        (HISTORY, days) => Some(Retention::History { days: Some(days) }),
        _ => return Err(Error::Malformed { what: "retention", reason: "its kind is unknown" }),
    };
    if retention.is_some_and(|retention| !retention.is_valid()) {
        return Err(Error::Malformed { what: "retention", reason: "its days are out of range" });
    }
    Ok(retention)
}

/// Up to where a chat's messages are dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Everything up to here is.
    pub deleted_up_to: MessageSeq,
    /// Everything older is.
    pub expired_before_ms: u64,
}

impl Floor {
    /// Whether a message is dead.
    pub fn is_dead(self, seq: MessageSeq, time_ms: u64) -> bool {
        seq <= self.deleted_up_to || time_ms < self.expired_before_ms
    }

    /// Where a reader goes on that finds nothing at `from..end`: behind what is dead for certain or may have expired,
    /// and so at `from` where something should be there.
    pub(super) fn skip_hole(self, from: MessageSeq, end: MessageSeq) -> MessageSeq {
        if self.expired_before_ms > 0 {
            return end;
        }
        from.max(self.deleted_up_to.next().min(end))
    }
}

/// What a partition's chats have in common. Always in memory; the manifest keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of chats that say nothing themselves.
    pub retention: Retention,
    /// The expiry clock, milliseconds since 1970: it only goes forward.
    pub expired_at_ms: u64,
    /// Messages before this are dead in chats without a retention of their own.
    expired_before_ms: u64,
    /// Chats with a retention of their own.
    overrides: u64,
    /// Those of them that keep for ever.
    overrides_forever: u64,
    /// The most days that one of them ever had, since there were none.
    override_days_max: u32,
    /// Whether a retention other than for ever was ever set: before, no message can be dead.
    deletes: bool,
}

/// Form of [`Settings`] in a manifest.
const SETTINGS_VERSION: u8 = 2;

impl Settings {
    /// Reads what [`Self::encode`] wrote; nothing at all is the default.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut take = Take::new(bytes, "settings");
        if take.take_u8()? != SETTINGS_VERSION {
            return Err(Error::Malformed { what: "settings", reason: "their version is unknown" });
        }
        let retention = take_retention(&mut take)?;
        let settings = Self {
            retention: retention.ok_or(Error::Malformed { what: "settings", reason: "they have no retention" })?,
            expired_at_ms: take.take_u64()?,
            expired_before_ms: take.take_u64()?,
            overrides: take.take_u64()?,
            overrides_forever: take.take_u64()?,
            override_days_max: take.take_u32()?,
            deletes: match take.take_u8()? {
                0 => false,
                1 => true,
                _ => return Err(Error::Malformed { what: "settings", reason: "a flag is neither 0 nor 1" }),
            },
        };
        take.finish()?;
        if settings.overrides_forever > settings.overrides || settings.expired_before_ms > settings.expired_at_ms {
            return Err(Error::Malformed { what: "settings", reason: "they contradict themselves" });
        }
        Ok(settings)
    }

    /// The bytes for the manifest.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(43);
        out.put_u8(SETTINGS_VERSION);
        put_retention(Some(self.retention), &mut out);
        out.put_u64(self.expired_at_ms);
        out.put_u64(self.expired_before_ms);
        out.put_u64(self.overrides);
        out.put_u64(self.overrides_forever);
        out.put_u32(self.override_days_max);
        out.put_u8(u8::from(self.deletes));
        out.into()
    }

    /// Settings where those of a partition are lost: everything is kept for ever but where a chat says otherwise. Where
    /// messages are missing, readers are told that they may have expired, so that they go on behind them.
    pub(crate) fn rebuilt<'a>(chats: impl Iterator<Item = &'a Chat>, has_holes: bool) -> Self {
        let since = u64::from(has_holes);
        let mut settings =
            Self { expired_at_ms: since, expired_before_ms: since, deletes: has_holes, ..Self::default() };
        for chat in chats {
            settings.count_override(None, chat.retention);
            settings.deletes |= chat.retention.is_some_and(|own| own != Retention::default())
                || settings.floor_of(chat) != Floor::default();
        }
        settings
    }

    /// Whether an [`super::command::Command::Expire`] can change anything.
    pub fn can_expire(&self) -> bool {
        self.retention.days().is_some() || self.overrides > self.overrides_forever
    }

    /// Whether any message may ever have died.
    pub const fn deletes(&self) -> bool {
        self.deletes
    }

    /// Whether some chat may keep messages only until they are delivered.
    pub const fn may_delete_delivered(&self) -> bool {
        matches!(self.retention, Retention::UntilDelivered { .. }) || self.overrides > 0
    }

    /// Every message of the partition that is older is dead, whichever chat it is of: a file of nothing else may go as
    /// a whole. 0 where there is no such time.
    pub fn expired_before_every_chat_ms(&self) -> u64 {
        match (self.overrides, self.overrides_forever) {
            (0, _) => self.expired_before_ms,
            (_, 0) => {
                let longest = Retention::History { days: Some(self.override_days_max) };
                self.expired_before_ms.min(longest.expired_before_ms(self.expired_at_ms))
            }
            _ => 0,
        }
    }

    /// What holds in a chat.
    pub fn retention_of(&self, chat: &Chat) -> Retention {
        chat.retention.unwrap_or(self.retention)
    }

    /// Up to where a chat's messages are dead.
    pub fn floor_of(&self, chat: &Chat) -> Floor {
        let expired_before_ms = match chat.retention {
            None => self.expired_before_ms,
            Some(retention) => retention.expired_before_ms(self.expired_at_ms),
        };
        Floor { deleted_up_to: chat.deleted_up_to, expired_before_ms: expired_before_ms.max(chat.expired_before_ms) }
    }

    /// The default's days are over for more.
    fn expire(&mut self) {
        let by_default = self.retention.expired_before_ms(self.expired_at_ms);
        self.expired_before_ms = self.expired_before_ms.max(by_default);
    }

    /// Moves the chat's `deleted_up_to` to where every device of every member is, if the chat keeps nothing longer.
    pub(super) fn delete_delivered(&self, id: ChatId, row: &mut ChatRow) {
        if !matches!(self.retention_of(&row.chat), Retention::UntilDelivered { .. }) {
            return;
        }
        let delivered = row.lowest(|member| member.everywhere);
        let Chat { last_seq, deleted_up_to, .. } = &mut row.chat;
        assert!(delivered <= *last_seq, "chat {id}: {delivered} is everywhere, {last_seq} was given");
        *deleted_up_to = delivered.max(*deleted_up_to);
    }

    /// A chat's own retention changes.
    fn count_override(&mut self, before: Option<Retention>, after: Option<Retention>) {
        if let Some(before) = before {
            self.overrides -= 1;
            self.overrides_forever -= u64::from(before.days().is_none());
        }
        if self.overrides == 0 {
            self.override_days_max = 0;
        }
        if let Some(after) = after {
            self.overrides += 1;
            self.overrides_forever += u64::from(after.days().is_none());
            self.override_days_max = self.override_days_max.max(after.days().unwrap_or_default());
        }
    }
}

impl State {
    /// Up to where a chat's messages are dead; `None` where the chat is not in memory: its messages are kept for now.
    pub(super) fn floor(&self, chat: ChatId) -> Option<Floor> {
        self.lookup::<ChatRow>(&chat).flatten().map(|row| self.settings.floor_of(&row.chat))
    }

    pub(super) fn apply_expire(&mut self, now_ms: u64) -> Outcome {
        self.settings.expired_at_ms = self.settings.expired_at_ms.max(now_ms);
        self.settings.expire();
        Outcome::Done
    }

    /// Of one chat, or of all that say nothing themselves. Chats that keep until delivered by default move their
    /// `deleted_up_to` with their members' next progress; one that is named does so at once.
    pub(super) fn apply_set_retention(&mut self, chat: Option<ChatId>, retention: Option<Retention>) -> Outcome {
        let Some(id) = chat else {
            self.settings.retention = retention.unwrap_or_default();
            self.settings.deletes |= self.settings.retention != Retention::default();
            self.settings.expire();
            return Outcome::Done;
        };
        if self.get::<ChatRow>(&id).is_none() {
            return Outcome::Refused(Code::UnknownChat);
        }
        let mut settings = self.settings;
        let row = self.edit::<ChatRow>(id).as_mut().expect("it is there");
        // What is dead by what held until now stays dead.
        row.chat.expired_before_ms = settings.floor_of(&row.chat).expired_before_ms;
        let before = core::mem::replace(&mut row.chat.retention, retention);
        settings.count_override(before, retention);
        settings.deletes |= retention.is_some_and(|retention| retention != Retention::default());
        settings.delete_delivered(id, row);
        self.settings = settings;
        Outcome::Done
    }
}

#[cfg(test)]
mod tests;
