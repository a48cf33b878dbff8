//! What the frames of the load mean: Columba's protocol, or the echo server's imitation of its traffic.
//!
//! Echo frames, little-endian, padded to the length of Columba's frame for the same thing:
//!
//! | kind u8 | then |
//! |---|---|
//! | 0 hello | room u32, commit u8 |
//! | 1 message | seq u64, times as in a body, padding |
//! | 2 ack | seq u64, padding |
//! | 3 reply | seq u64, padding |
//! | 4 stream | in place of a hello: count u64, bytes u32 |
//!
//! The exchange is the same: one frame in makes one frame to everybody else in the room and one reply to the sender;
//! acks are taken and dropped. A stream is so many messages of so many bytes, as fast as they are taken.

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use columba_wire::{
    ChatId, Code, UserId,
    frame::{decode_server, encode},
    v1::{Ack, ClientFrame, Send, client_frame, server_frame},
};

/// Kind of the echo frame that opens a connection.
pub(crate) const ECHO_HELLO: u8 = 0;
/// Kind of an echo message.
pub(crate) const ECHO_MESSAGE: u8 = 1;
/// Kind of an echo acknowledgement.
pub(crate) const ECHO_ACK: u8 = 2;
/// Kind of an echo reply.
pub(crate) const ECHO_REPLY: u8 = 3;
/// Kind of the echo frame that asks for a stream of messages.
pub(crate) const ECHO_STREAM: u8 = 4;
/// Bytes of an echo message beside its body: Columba's `Send` and `Deliver` are 178 and 205 with a body of 150.
pub(crate) const ECHO_MESSAGE_BYTES: usize = 42;
/// Bytes of an echo acknowledgement or reply: Columba's `Ack` and `Sent` are about 25 and 35.
const ECHO_REPLY_BYTES: usize = 32;

/// The times that a message carries, nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// When it should have been sent.
    pub(crate) due_ns: u64,
    /// When it was given to the connection.
    pub(crate) written_ns: u64,
}

impl Times {
    fn put(self, out: &mut BytesMut) {
        out.put_u64_le(self.due_ns);
        out.put_u64_le(self.written_ns);
    }

    fn get(mut bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Self { due_ns: bytes.try_get_u64_le()?, written_ns: bytes.try_get_u64_le()? })
    }
}

/// What a frame from the server says.
pub(crate) enum Event {
    /// A send is stored.
    Sent {
        /// Which one.
        client_seq: u64,
    },
    /// A message of the partner.
    Delivered {
        /// Its chat.
        chat: Bytes,
        /// Its place there.
        seq: u64,
        /// What its body says.
        times: Times,
    },
    /// Nothing that matters to a measurement.
    Other,
}

/// How frames are read and written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect {
    /// Columba's protocol.
    Columba {
        /// The partner.
        to: UserId,
    },
    /// The same, in a group.
    Group {
        /// Which.
        chat: ChatId,
    },
    /// The echo server's.
    Echo,
}

impl Dialect {
    /// The frame that sends a message of `body_bytes` which carries `times`.
    pub(crate) fn message(&self, client_seq: u64, times: Times, body_bytes: usize) -> Bytes {
        match self {
            Self::Columba { to } => {
                let (to_user, body) = (Bytes::copy_from_slice(to.as_bytes()), body(times, body_bytes));
                send_frame(Send { client_seq, to_user, body, ..Send::default() })
            }
            Self::Group { chat } => {
                let (chat_id, body) = (Bytes::copy_from_slice(chat.as_bytes()), body(times, body_bytes));
                send_frame(Send { client_seq, chat_id, body, ..Send::default() })
            }
            Self::Echo => echo_message(client_seq, times, body_bytes),
        }
    }

    /// The frame that acknowledges all of `chat` up to `seq`.
    pub(crate) fn ack(&self, chat: &Bytes, seq: u64) -> Bytes {
        match self {
            Self::Columba { .. } | Self::Group { .. } => {
                let ack = Ack { chat_id: chat.clone(), seq };
                encode(&ClientFrame { request_id: 0, kind: Some(client_frame::Kind::Ack(ack)) })
            }
            Self::Echo => echo_short(ECHO_ACK, seq),
        }
    }

    /// What a frame says.
    ///
    /// # Errors
    /// It is none, or says that something failed: no measurement survives that.
    pub(crate) fn read(&self, mut frame: Bytes) -> anyhow::Result<Event> {
        match self {
            Self::Columba { .. } | Self::Group { .. } => Ok(match decode_server(frame)?.kind {
                Some(server_frame::Kind::Sent(sent)) => Event::Sent { client_seq: sent.client_seq },
                // A change of a group carries no times; what is acknowledged after it covers it.
                Some(server_frame::Kind::Deliver(deliver)) if deliver.change.is_some() => Event::Other,
                Some(server_frame::Kind::Deliver(deliver)) => {
                    let times = Times::get(&deliver.body).context("a body that this load did not send")?;
                    Event::Delivered { chat: deliver.chat_id, seq: deliver.seq, times }
                }
                Some(server_frame::Kind::Error(error)) => {
                    let name = Code::from_number(error.code).map_or("unknown code", Code::name);
                    bail!("the server says {name}: {}", error.message)
                }
                Some(server_frame::Kind::Goaway(goaway)) => bail!("the server ends the session: {}", goaway.message),
                _ => Event::Other,
            }),
            Self::Echo => {
                let kind = frame.try_get_u8()?;
                let seq = frame.try_get_u64_le()?;
                Ok(match kind {
                    ECHO_MESSAGE => Event::Delivered { chat: Bytes::new(), seq, times: Times::get(&frame)? },
                    ECHO_REPLY => Event::Sent { client_seq: seq },
                    _ => Event::Other,
                })
            }
        }
    }
}

fn body(times: Times, bytes: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(bytes);
    times.put(&mut body);
    body.put_bytes(b'.', bytes - body.len());
    body.freeze()
}

fn send_frame(send: Send) -> Bytes {
    encode(&ClientFrame { request_id: send.client_seq, kind: Some(client_frame::Kind::Send(send)) })
}

/// An echo message.
pub(crate) fn echo_message(seq: u64, times: Times, body_bytes: usize) -> Bytes {
    let bytes = ECHO_MESSAGE_BYTES + body_bytes;
    let mut frame = BytesMut::with_capacity(bytes);
    frame.put_u8(ECHO_MESSAGE);
    frame.put_u64_le(seq);
    times.put(&mut frame);
    frame.put_bytes(b'.', bytes - frame.len());
    frame.freeze()
}

/// An echo acknowledgement or reply.
pub(crate) fn echo_short(kind: u8, seq: u64) -> Bytes {
    let mut frame = BytesMut::with_capacity(ECHO_REPLY_BYTES);
    frame.put_u8(kind);
    frame.put_u64_le(seq);
    frame.put_bytes(0, ECHO_REPLY_BYTES - frame.len());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::BODY_BYTES;

    #[test]
    fn an_echoed_message_carries_its_times() {
        let sent = Times { due_ns: 99, written_ns: 100 };
        let event = Dialect::Echo.read(Dialect::Echo.message(7, sent, 16)).unwrap();
        assert!(matches!(event, Event::Delivered { seq: 7, times, .. } if times == sent));
    }

    #[test]
    fn echo_frames_are_as_long_as_the_frames_they_stand_for() {
        let columba = Dialect::Columba { to: UserId::from_bytes([9; 16]) };
        let times = Times { due_ns: 1, written_ns: 1 };
        let echo = Dialect::Echo.message(1_000, times, BODY_BYTES).len();
        assert!(columba.message(1_000, times, BODY_BYTES).len().abs_diff(echo) < 20);
        let group = Dialect::Group { chat: ChatId::from_bytes([9; 16]) };
        assert!(group.message(1_000, times, BODY_BYTES).len().abs_diff(echo) < 20);
        assert!(columba.ack(&Bytes::from_static(&[9; 16]), 1_000).len().abs_diff(ECHO_REPLY_BYTES) < 20);
    }
}
