//! Delivery: from a committed message to every device of every member, at least once, in order.
//!
//! | module | runs on | what it holds |
//! |---|---|---|
//! | [`fanout`] | the chat's core | per chat with work to do: how far each member is; resends; the durable cursor |
//! | [`live`] | the user's core | per user with sessions or obligations: push now, the inbox catches the rest |
//! | [`presence`] | the user's core | online, last seen, subscriptions |
//! | `signals` | both | what is passed on and never stored: whom it is for |
//!
//! The obligation stays with the chat's fan-out until the user's host reports `covered`: each device has acknowledged,
//! or has a durable inbox entry. Messages between the two may be lost (a crash, a full queue): the fan-out resends from
//! its cursor. The user's host accepts only what continues what it has, or what begins at the cursor (`fresh`).
//!
//! In a group of a hundred members and more (`HINTED_FROM_MEMBERS`) most are away, so what costs a durable write per
//! member is coalesced: references to inboxes ([`HINT_AFTER`]) and cursors ([`LARGE_ADVANCE_EVERY`]). A message is
//! stored once and pushed to who is there; who is away has one reference for all that came meanwhile, and reads it from
//! the chat when it comes back.
//!
//! Invariants
//! - Per device a chat's messages are pushed in order of seq, without gaps: first what is in the inbox, then live. A
//!   chat that does not wait in the inbox does not wait for it.
//! - A device is live only when its inbox is empty and nothing is on its way into it.
//! - What was pushed and not acknowledged when a session ends, falls behind, or after [`ACK_WAIT`] goes to the inbox,
//!   before anything newer of the chat does.

pub mod fanout;
pub mod live;
pub mod presence;
mod signals;

use core::time::Duration;

/// How long a live device may take to acknowledge before its messages go to its inbox.
pub const ACK_WAIT: Duration = Duration::from_secs(2);
/// How long a member may stay uncovered before its messages are delivered again from the cursor.
pub const RESEND_AFTER: Duration = Duration::from_secs(5);
/// How often moved cursors and delivered watermarks are made durable.
pub const ADVANCE_EVERY: Duration = Duration::from_millis(500);
/// How often receipts are told to the other members: ticks are for people.
pub const RECEIPT_EVERY: Duration = Duration::from_millis(20);
/// How often the members of a group are told what all of them have: it is told to each, so it waits for more.
pub const GROUP_RECEIPT_EVERY: Duration = Duration::from_millis(250);
/// Members of a chat up to which each message is put into the inboxes of those who are away at once. In larger groups
/// the references are coalesced: see [`HINT_AFTER`].
pub const HINTED_FROM_MEMBERS: usize = 100;
/// How long a reference to messages of a large group waits for more of them, for a device that is away: there are a
/// thousand such devices, and one durable write for each and each message would be all that the disk does.
pub const HINT_AFTER: Duration = Duration::from_secs(10);
/// Messages of a large group that wait so for a device. Beyond: the reference is written at once.
pub const HINT_MESSAGES_MAX: u64 = 1024;
const _: () = assert!(HINT_MESSAGES_MAX < FANOUT_WINDOW, "the fan-out does not wait for a hint");
/// How long a member of a large group may stay uncovered before its messages are delivered again from the cursor.
pub const LARGE_RESEND_AFTER: Duration = Duration::from_secs(30);
/// How often moved cursors of large groups are made durable. What a crash forgets is delivered again.
pub const LARGE_ADVANCE_EVERY: Duration = Duration::from_secs(5);
/// Messages of a chat on their way to a member and not covered. Beyond: the fan-out waits, and reads them later.
pub const FANOUT_WINDOW: u64 = 4096;
const _: () =
    assert!(FANOUT_WINDOW >= columba_wire::limits::UNACKED_MAX as u64, "the device is the bound, not the chat");
/// Bytes of bodies that the fan-out reads at a time.
pub const FANOUT_READ_BYTES: usize = 256 * 1024;
/// Chats in one `Advance`.
pub const ADVANCE_CHATS_MAX: usize = 1024;
/// Late delivered watermarks kept at a time; beyond, a tick is lost until the next.
pub const LATE_MAX: usize = 65_536;
/// Messages held for a device that is catching up, or has too much unacknowledged. Beyond: they go to its inbox.
pub const HELD_MAX: usize = 1024;
/// Bytes of their bodies. Beyond: likewise.
pub const HELD_BYTES_MAX: usize = 256 * 1024;
/// Bytes of messages pushed to a device and not acknowledged; beyond (and beyond `UNACKED_MAX` messages) it falls
/// behind.
pub const UNACKED_BYTES_MAX: usize = columba_wire::limits::OUTBOX_BYTES_MAX;
/// What a catch-up may have pushed and unacknowledged of these bounds: the rest is for what is live meanwhile.
pub const CATCH_UP_MAX: usize = columba_wire::limits::UNACKED_MAX / 4 * 3;
/// The same in bytes.
pub const CATCH_UP_BYTES_MAX: usize = UNACKED_BYTES_MAX / 4 * 3;
/// Inbox entries that are looked through for the chats that wait in it, before a catch-up begins. Beyond: any chat may
/// be among them, and what comes of it waits until the inbox is read to its end.
pub const BEHIND_ENTRIES_MAX: usize = 16_384;
/// Inbox entries read at a time while catching up.
pub const SYNC_PAGE_ENTRIES: usize = 64;
/// Bytes of bodies read at a time while catching up.
pub const SYNC_READ_BYTES: usize = 128 * 1024;
/// Milliseconds that a device whose catch-up failed is asked to wait before it comes back.
pub const SYNC_FAILED_RETRY_MS: u32 = 5_000;
/// Own messages of a device that are remembered while it has not acknowledged what came before them. Beyond, the oldest
/// is forgotten: that every device has it is known only when the device acknowledges something above.
pub const OWN_MAX: usize = 4096;
const _: () = assert!(OWN_MAX as u64 >= FANOUT_WINDOW, "what is not covered is never forgotten");
/// Deliveries that wait for a user's row to be read. Beyond they are dropped, and sent again later.
pub const WAITING_MAX: usize = 1024;
/// Sessions subscribed to one user's presence. Beyond: the oldest loses its subscription.
pub const SUBSCRIBERS_MAX: usize = 10_000;
/// How often last-seen times are made durable.
pub const LAST_SEEN_EVERY: Duration = Duration::from_secs(5);
