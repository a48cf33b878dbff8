//! Bugs that the checkers must catch, chosen at run time; compiled in only with the feature `planted-bugs`.
//!
//! Each is a one-line change at the place where the real mistake would be made. Without the feature every question is
//! answered "no" at compile time.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// `Sent` leaves before the journal's write is durable.
    AcknowledgeBeforeDurable,
    /// After a restart the last applied entry is applied once more.
    ApplyTwice,
    /// An inbox is trimmed one entry further than the device acknowledged.
    TrimTooFar,
    /// A seq is given to two messages of a chat.
    SeqReused,
    /// A revoked device may log in again.
    RevokedStays,
    /// A member that is away gets no inbox entry, but the fan-out cursor moves.
    InboxSkipped,
    /// What is live is pushed to a device past what waits of the chat in its inbox.
    PushedPastInbox,
    /// A retry with the same client seq is stored as a new message.
    DuplicateStored,
    /// Who is let into a group is not delivered the message that says so.
    NewcomerSkipped,
    /// Who was put out of a group is delivered what comes after.
    DeliversToRemoved,
    /// A read watermark falls back with the member's next progress.
    ReadLost,
    /// A link to a group lets somebody in that was ended.
    EndedInvite,
    /// Who is blocked may send all the same.
    BlockIgnored,
    /// What a device has in its inbox counts as had.
    SettledEarly,
    /// What devices have caught up with is never known.
    NeverSettled,
    /// That a user has come into a chat is not noted with the user.
    ChatNotNoted,
    /// A chat that takes in a user while it is deleted keeps it.
    OrphanStays,
    /// A one-time key is given out and kept.
    KeyTwice,
    /// A merge loses some live rows and messages.
    RowLostInMerge,
    /// A merged file's filter denies some of the chats that the file has.
    StaleFilter,
    /// The manifest names files whose data is not durable yet.
    ManifestBeforeData,
}

impl Planted {
    /// Every planted bug.
    pub const ALL: &[Self] = &[
        Self::AcknowledgeBeforeDurable,
        Self::ApplyTwice,
        Self::TrimTooFar,
        Self::SeqReused,
        Self::RevokedStays,
        Self::InboxSkipped,
        Self::PushedPastInbox,
        Self::DuplicateStored,
        Self::NewcomerSkipped,
        Self::DeliversToRemoved,
        Self::ReadLost,
        Self::EndedInvite,
        Self::BlockIgnored,
        Self::SettledEarly,
        Self::NeverSettled,
        Self::ChatNotNoted,
        Self::OrphanStays,
        Self::KeyTwice,
        Self::RowLostInMerge,
        Self::StaleFilter,
        Self::ManifestBeforeData,
    ];
}

#[cfg(feature = "planted-bugs")]
std::thread_local! {
    static ACTIVE: core::cell::Cell<Option<Planted>> = const { core::cell::Cell::new(None) };
}

/// Plants a bug in this thread, or removes it.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Planted>) {
    ACTIVE.with(|active| active.set(bug));
}

/// Whether the bug is planted in this thread.
#[cfg(feature = "planted-bugs")]
pub fn is(bug: Planted) -> bool {
    ACTIVE.with(|active| active.get() == Some(bug))
}

/// Whether the bug is planted: never, in this build.
#[cfg(not(feature = "planted-bugs"))]
pub const fn is(_bug: Planted) -> bool {
    false
}
