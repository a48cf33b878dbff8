//! Every bound of a core: unit, reason, and what happens beyond it.

use core::time::Duration;

/// Sessions of a core. Beyond: `TOO_MANY_CONNECTIONS`.
pub const SESSIONS_MAX: usize = 100_000;
/// Connections of a core that are not logged in. Beyond: `TOO_MANY_CONNECTIONS`; those that are in go on undisturbed.
pub const UNAUTHENTICATED_MAX: usize = 4_096;
/// Requests of a session (not sends, not acknowledgements) that may be unanswered; beyond, its input is held back.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 32;
/// Messages to other cores that wait for room in a ring. Beyond: no session of the core is read from until half of them
/// have left.
pub const REMOTE_WAITING_MAX: usize = 16_384;
/// Bytes of a partition's commands that wait to be proposed. Beyond: `OVERLOADED`.
pub const PROPOSAL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Chats that wait for admission, and sends that wait in one. Beyond: `OVERLOADED`.
pub const ADMITTING_MAX: usize = 4_096;
/// Parts of a segment (one in so many) of journal that can be written without new space, below which clients' commands
/// are refused: `NO_SPACE`. A fifth of 64 MiB.
pub const JOURNAL_ROOM_SENDS_PART: u64 = 5;
/// The same for the node's own commands (acknowledgements, inboxes, trims): they go on longer, and then wait.
pub const JOURNAL_ROOM_INTERNAL_PART: u64 = 10;
/// Jobs of a core that run at a time: above [`SESSIONS_MAX`], since each catch-up is one.
pub const JOBS_MAX: usize = 120_000;
/// Pages below each other that a request for history looks at, where all of them are deleted. Beyond: the history ends.
pub const HISTORY_STEPS_MAX: usize = 8;
/// How often partitions are told the time, for retention by days.
pub const RETENTION_EVERY: Duration = Duration::from_secs(60 * 60);
/// Logins and registrations of one address in a burst.
pub const LOGIN_BURST: u32 = 60;
/// Logins and registrations of one address, per second after the burst. Loopback is exempt, unless the configuration
/// says otherwise.
pub const LOGINS_PER_SECOND: u32 = 5;
/// Link codes begun by one address, and looked at by one user, in a burst. A code has 40 bits: so nobody finds one by
/// trying.
pub const LINK_BURST: u32 = 6;
/// How often there is one more. Of addresses loopback is exempt.
pub const LINK_EVERY: Duration = Duration::from_secs(20);
/// Link codes of a core. Beyond: the oldest is forgotten.
pub const LINKS_MAX: usize = 4_096;
/// Keys whose rate is remembered in one table: addresses, users.
pub const RATE_KEYS_MAX: usize = 100_000;
/// Takes of one user's keys by one other user in a burst: a few reinstalled devices. Beyond: `RATE_LIMITED`.
pub const KEYS_TARGET_BURST: u32 = 6;
/// How often such a take comes back.
pub const KEYS_TARGET_EVERY: Duration = Duration::from_secs(10 * 60);
/// Takes of keys by one user in a burst, of all users of a core together. Beyond: `RATE_LIMITED`.
pub const KEYS_ASKER_BURST: u32 = 60;
/// How often such a take comes back.
pub const KEYS_ASKER_EVERY: Duration = Duration::from_secs(60);
/// Signals of one user in a burst, on all its sessions of a core together: the candidates of a call come at once.
/// Beyond: `RATE_LIMITED`.
pub const SIGNAL_BURST: u32 = 30;
/// Signals of one user, per second after the burst.
pub const SIGNALS_PER_SECOND: u32 = 10;
/// Bytes that wait in an outbox beyond which signals are left out: others choose how many there are, and they must not
/// hold back the input of a client that reads slowly.
pub const SIGNALS_WAITING_BYTES_MAX: usize = columba_wire::limits::OUTBOX_BYTES_MAX / 2;
const _: () = assert!(
    SIGNALS_WAITING_BYTES_MAX + 2 * columba_wire::limits::SIGNAL_BYTES_MAX <= columba_wire::limits::OUTBOX_BYTES_MAX,
    "an outbox with nothing but signals is not full"
);
/// Memory of a core for memtables and caches where nothing else is said, bytes.
pub const MEMORY_BYTES_DEFAULT: usize = 256 * 1024 * 1024;
/// How often message files are looked through for those that every device has.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How fast files are verified in the background where nothing else is said.
pub const SCRUB_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Each file is verified at most once in this time.
pub const SCRUB_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Chats from which a deleted user is taken out at a time.
pub const ERRAND_CHATS_MAX: usize = 16;
/// How often that is tried again where it failed.
pub const ERRAND_RETRY_EVERY: Duration = Duration::from_secs(5);
/// Messages of a device in a burst: what was written offline comes at once. Beyond: `RATE_LIMITED`.
pub const SEND_BURST: u32 = 512;
/// How often there is one more: 50 a second.
pub const SEND_EVERY: Duration = Duration::from_millis(20);
/// Messages of all devices of a user in a burst, on one core. Beyond: `RATE_LIMITED`.
pub const USER_SEND_BURST: u32 = 1024;
/// How often there is one more: 100 a second.
pub const USER_SEND_EVERY: Duration = Duration::from_millis(10);
/// Messages to a chat in a burst, of all its members together. Beyond: `RATE_LIMITED`.
pub const CHAT_SEND_BURST: u32 = 1024;
/// How often there is one more: 100 a second. In the largest group that makes 100,000 deliveries a second.
pub const CHAT_SEND_EVERY: Duration = Duration::from_millis(10);
/// Chats that a user begins in a burst, of the chats of one core: groups that it makes, and first messages to other
/// users. Beyond: `RATE_LIMITED`.
pub const BEGIN_BURST: u32 = 64;
/// How often there is one more: a new one now and then is what people do, one after the other is spam.
pub const BEGIN_EVERY: Duration = Duration::from_secs(60);
