//! Every limit a client can meet, with unit, reason, and what happens beyond it. `PROTOCOL.md` repeats the table.

/// Bytes of one frame, encoded. A longer one ends the connection with `FRAME_TOO_LARGE`: its end cannot be trusted.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a message body. Beyond: `BODY_TOO_LARGE`. Media goes elsewhere.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a frame before login: nothing that a stranger has to say is longer. Beyond: the connection is closed.
pub const FRAME_BYTES_UNAUTHENTICATED_MAX: usize = 8 * 1024;
/// Protocol versions in a `Hello`.
pub const VERSIONS_MAX: usize = 16;
/// Bytes of the agent's name in a `Hello`.
pub const AGENT_BYTES_MAX: usize = 64;
/// Bytes of a handle, least.
pub const HANDLE_BYTES_MIN: usize = 3;
/// Bytes of a handle, most.
pub const HANDLE_BYTES_MAX: usize = 32;
/// Bytes of an invite code or JWT.
pub const CREDENTIAL_BYTES_MAX: usize = 4 * 1024;
/// Sends of one session that may be unanswered. Beyond: `TOO_MANY_IN_FLIGHT`, retryable.
///
/// The server remembers `DEDUP_WINDOW` client seqs per device and chat, so a retry of any unanswered send is
/// recognised.
pub const SENDS_IN_FLIGHT_MAX: usize = 64;
/// Client seqs remembered per device and chat.
pub const DEDUP_WINDOW: usize = 64;
const _: () = assert!(SENDS_IN_FLIGHT_MAX <= DEDUP_WINDOW, "a retry of an unanswered send must be recognised");
/// Delivered and unacknowledged messages of one session before the server holds the rest back in the inbox. Their bytes
/// are bounded too (`OUTBOX_BYTES_MAX`): this bound is for short ones, and generous, because to fall behind costs both
/// sides more than a longer queue does.
pub const UNACKED_MAX: usize = 1024;
/// Bytes of delivered and not yet written frames of one session; beyond, the live push stops and the rest waits in
/// the inbox.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Milliseconds for a peer that reads nothing while its outbox is full; then the connection is closed.
pub const OUTBOX_STALL_MS_MAX: u64 = 30_000;
/// Messages in one history page.
pub const HISTORY_PAGE_MAX: u32 = 100;
/// Bytes of bodies in one history page; a page ends early at this size.
pub const HISTORY_PAGE_BYTES_MAX: usize = 96 * 1024;
/// Users in one presence subscription. Beyond: `TOO_MANY_SUBSCRIPTIONS`.
pub const PRESENCE_SUBSCRIPTIONS_MAX: usize = 256;
/// Bytes of each field of a profile. Beyond: `INVALID_ARGUMENT`. A picture lies elsewhere, and is named here.
pub const PROFILE_FIELD_BYTES_MAX: usize = 512;
/// One-time keys of a device that the server keeps. Beyond: `INVALID_ARGUMENT`, and none of a request is stored.
pub const ONE_TIME_KEYS_MAX: usize = 100;
/// A device that has fewer one-time keys left is told so, with each one that is taken.
pub const KEYS_LOW_AT: usize = 20;
/// Bytes of a signal's body: an SDP offer fits. Beyond: `BODY_TOO_LARGE`.
pub const SIGNAL_BYTES_MAX: usize = 16 * 1024;
/// Members of a group up to which a signal is for all of them. Beyond: `TOO_MANY`; one for a single member passes.
pub const SIGNAL_MEMBERS_MAX: usize = 99;
/// Milliseconds between heartbeats of a client.
pub const HEARTBEAT_MS: u32 = 30_000;
/// Milliseconds without any frame after which a session is dead: two missed heartbeats and a half.
pub const HEARTBEAT_DEADLINE_MS: u64 = 75_000;
/// Milliseconds for the TLS handshake.
pub const TLS_HANDSHAKE_MS_MAX: u64 = 5_000;
/// Milliseconds from accept to login; then the connection is closed with `LOGIN_TIMEOUT`.
pub const LOGIN_MS_MAX: u64 = 10_000;
/// Failed logins or registrations on one connection; then it is closed.
pub const LOGIN_ATTEMPTS_MAX: u32 = 3;
/// Milliseconds for a frame, once begun, to arrive whole.
pub const FRAME_MS_MAX: u64 = 10_000;
/// Milliseconds that a long-poll request waits for something to say; then it is answered with nothing. Below what
/// proxies allow, commonly 30 s.
pub const POLL_HOLD_MS: u64 = 25_000;
/// Devices of a user. Beyond: `TOO_MANY`, until one is revoked.
pub const DEVICES_MAX: usize = 8;
/// Bytes of a device's name.
pub const DEVICE_NAME_BYTES_MAX: usize = 64;
/// Milliseconds that a link code is good for; then the waiting connection is closed.
pub const LINK_MS_MAX: u64 = 120_000;
/// Members of a group. Beyond: `TOO_MANY`.
pub const GROUP_MEMBERS_MAX: usize = 1024;
/// Members that one change removes. Beyond: `INVALID_ARGUMENT`.
pub const GROUP_REMOVED_MAX: usize = 64;
/// Bytes of a group's name. Beyond: `INVALID_ARGUMENT`.
pub const GROUP_NAME_BYTES_MAX: usize = 256;
/// Bytes of the reference to a group's picture. Beyond: `INVALID_ARGUMENT`.
pub const GROUP_PICTURE_BYTES_MAX: usize = 512;
/// Seconds after which messages disappear, at most: a year. Beyond: `INVALID_ARGUMENT`.
pub const TIMER_S_MAX: u32 = 365 * 24 * 3600;
/// Contacts of a user that the server keeps. Beyond: `TOO_MANY`.
pub const CONTACTS_MAX: usize = 2048;
/// Users that a user has blocked. Beyond: `TOO_MANY`.
pub const BLOCKED_MAX: usize = 1024;
/// Chats in one answer to `GetChats`. Beyond: `INVALID_ARGUMENT`.
pub const CHATS_PAGE_MAX: u32 = 256;
