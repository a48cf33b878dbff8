//! Every bound of the client, with unit, reason, and what happens beyond it.

use core::time::Duration;

use columba_wire::limits::{FRAME_BYTES_MAX, POLL_HOLD_MS, SENDS_IN_FLIGHT_MAX, UNACKED_MAX};

/// Messages that wait for their answer, sent or not. Beyond: [`crate::Error::OutboxFull`].
pub const OUTBOX_MESSAGES_MAX: usize = 4096;
/// Requests other than sends that wait for their answer. Beyond: [`crate::Error::TooManyRequests`].
pub const REQUESTS_MAX: usize = 64;
/// Signals that wait for their answer. Beyond: [`crate::Error::TooManyRequests`]; that somebody writes is not told.
pub const SIGNALS_MAX: usize = 32;
/// How often it is told at most that the user writes to a chat.
pub const TYPING_EVERY: Duration = Duration::from_secs(3);
/// How long somebody counts as writing who does not say it again: one signal may be lost.
pub const TYPING_LAPSES: Duration = Duration::from_secs(6);
const _: () = assert!(TYPING_EVERY.as_secs() < TYPING_LAPSES.as_secs(), "who goes on writing does not lapse");
/// Chats to which it was told within [`TYPING_LAPSES`] that the user writes. Beyond: others are not told.
pub const TYPING_CHATS_MAX: usize = 64;
/// Users of whom it is known that they write, by chat. Beyond: of others it is not told.
pub const TYPING_USERS_MAX: usize = 1024;
/// Bytes of the reference of a media message. Beyond this and the next seven a body is not sent, and one that came is
/// not understood: what is shown of a message has a bound that its sender cannot move.
pub const MEDIA_REFERENCE_BYTES_MAX: usize = 512;
/// Bytes of a media type: those in use stay below.
pub const MEDIA_TYPE_BYTES_MAX: usize = 128;
/// Bytes of a file's name: what file systems allow.
pub const MEDIA_NAME_BYTES_MAX: usize = 256;
/// Bytes of a caption.
pub const MEDIA_CAPTION_BYTES_MAX: usize = 4096;
/// Bytes of a thumbnail.
pub const THUMBNAIL_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a media key.
pub const MEDIA_KEY_BYTES_MAX: usize = 64;
/// Bytes of a note's text.
pub const NOTE_BYTES_MAX: usize = 1024;
/// Bytes of a reaction: the longest emoji of today, a family in skin tones, has 41.
pub const EMOJI_BYTES_MAX: usize = 64;
/// Messages of a chat in a [`crate::types::Timeline`]. Beyond: the oldest go, and are not taken again.
pub const TIMELINE_MESSAGES_MAX: usize = 4096;
/// Bytes of the messages in a timeline, their fixed part included. Beyond: the same.
pub const TIMELINE_BYTES_MAX: usize = 8 * 1024 * 1024;
const _: () = assert!(
    TIMELINE_BYTES_MAX >= 64 * columba_wire::limits::BODY_BYTES_MAX,
    "a page of messages of any length fits beside what is told about them"
);
/// Calls on their way to the driver. Beyond: the caller waits.
pub const CALLS_MAX: usize = 256;
/// Calls the driver takes at a time.
pub const CALLS_BATCH_MAX: usize = 128;
/// Frames read at a time, before anything is answered.
pub const FRAMES_READ_MAX: usize = 256;
/// Frames encoded and not yet taken by the socket. Beyond: they stay in the session, where acknowledgements coalesce.
pub const FRAMES_WRITE_MAX: usize = 2 * SENDS_IN_FLIGHT_MAX;
/// Messages received and not yet acknowledged by the application. The server holds back at [`UNACKED_MAX`]; a server
/// that sends on is disconnected here.
pub const UNACKED_MESSAGES_MAX: usize = 4 * UNACKED_MAX;
/// Events that wait for the application. Beyond: the socket is not read. Receipts and presence, of which only the
/// newest counts, and signals are dropped when half of it is used.
pub const EVENTS_MAX: usize = UNACKED_MESSAGES_MAX + 256;
/// Own messages of a chat known above a hole that others' messages will fill. Beyond: gaps below go unreported.
pub const OWN_AHEAD_MAX: usize = 4096;
/// Messages of a chat kept in the profile's log. Older ones are left to the server's history.
pub const LOG_MESSAGES_MAX: usize = 500;
/// Names of users kept in the profile. Beyond: new ones are not kept.
pub const NAMES_MAX: usize = 4096;
/// Bytes of the profile's journal after which it is rewritten, when at least half of it is out of date.
pub const JOURNAL_BYTES_REWRITE: u64 = 1024 * 1024;
/// Bytes of the profile's journal and identity file that are read at all.
pub const PROFILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Time to connect, from the name look-up to the transport's handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Head start of QUIC before WebSocket is tried instead.
pub const QUIC_HEAD_START: Duration = Duration::from_secs(3);
/// Head start of WebSocket, and of long-polling where that worked last, before the next is tried instead.
pub const TCP_HEAD_START: Duration = Duration::from_secs(3);
/// Time for one attempt at a long-poll request: longer than the server holds it.
pub const POLL_TIMEOUT: Duration = Duration::from_millis(POLL_HOLD_MS + 10_000);
/// Attempts at a long-poll request with the same number. Beyond: the session is given up, and a new one begun.
pub const POLL_ATTEMPTS_MAX: u32 = 6;
/// Pause before the second attempt; each further pause is twice as long.
pub const POLL_PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause that an answer may ask for (`Retry-After`): the server ends a session that asks for nothing for 30 s.
pub const POLL_PAUSE_ASKED_MAX: Duration = Duration::from_secs(15);
/// Bytes of frames of a long-poll answer that are taken: the server stops at 64 KiB, and a frame may follow.
pub const POLL_ANSWER_BYTES_MAX: usize = 64 * 1024 + 2 * FRAME_BYTES_MAX;
/// Time from the transport's handshake to the welcome.
pub const LOGIN_TIMEOUT: Duration = Duration::from_millis(columba_wire::limits::LOGIN_MS_MAX);
/// Time for the last frames on [`crate::Client::close`].
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest wait before a reconnect.
pub const RECONNECT_MIN: Duration = Duration::from_millis(250);
/// Longest wait before a reconnect, unless the server asks for more.
pub const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// Longest wait that a server may ask for.
pub const RECONNECT_ASKED_MAX: Duration = Duration::from_secs(600);
/// Shortest wait before a refused send is tried again.
pub const RESEND_MIN: Duration = Duration::from_millis(100);
/// Longest wait before a refused send is tried again, unless the server asks for more.
pub const RESEND_MAX: Duration = Duration::from_secs(5);

/// Bytes of a line that `columba chat` reads: a body, and room for a leading slash. Beyond: the line is not sent.
pub const CHAT_LINE_BYTES_MAX: usize = columba_wire::limits::BODY_BYTES_MAX + 16;
/// Lines read ahead by `columba chat`. Beyond: standard input is not read.
pub const CHAT_LINES_MAX: usize = 64;
/// Own messages of a chat that `columba chat` watches until they are read. Beyond: the oldest lose their number.
pub const CHAT_TICKS_MAX: usize = 1024;
/// People, and chats with receipts, that `columba chat` remembers. Beyond: the next one is shown and not remembered.
pub const CHAT_PEOPLE_MAX: usize = 4096;
/// Groups that `columba chat` remembers.
pub const CHAT_GROUPS_MAX: usize = 1024;
/// Chats whose receipts `columba chat` asks for after a reconnect. Beyond: they show their ticks when they are chosen.
pub const CHAT_RECEIPTS_MAX: usize = 16;
/// Messages shown when a person is chosen.
pub const CHAT_LOG_SHOWN: usize = 10;
/// Messages shown by `/show` without a number.
pub const CHAT_SHOWN: usize = 20;
/// Messages shown by `/show`. Beyond: the command is not taken.
pub const CHAT_SHOWN_MAX: usize = 1000;
/// Messages shown by `/history` without a number.
pub const CHAT_HISTORY_SHOWN: u32 = 20;
/// Time for what is queued at the end of standard input.
pub const CHAT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for what is queued on `/quit`, while there is a connection.
pub const CHAT_QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Waits for a reconnect from which on each is shown.
pub const CHAT_RETRY_SHOWN: Duration = Duration::from_secs(5);
/// Chats that the terminal client of a new device asks about. Beyond: they are known with their next message.
pub const OWN_CHATS_MAX: usize = 1024;
