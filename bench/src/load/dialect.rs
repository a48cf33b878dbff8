//! What the frames of the load mean: Columba's protocol, or the echo server's imitation of its traffic.
//!
//! Echo frames, little-endian, padded to the length of Columba's frame for the same thing:
//!
//! | kind u8 | then |
//! |---|---|
//! | 0 hello | pair u32, side u8, commit u8 |
//! | 1 message | seq u64, times as in a body, padding |
//! | 2 ack | seq u64, padding |
//! | 3 reply | seq u64, padding |
//!
//! The exchange is the same: one frame in makes one frame to the partner and one reply to the sender; acks are taken
//! and dropped.

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use columba_wire::{
    Code, UserId,
    frame::{decode_server, encode},
    v1::{Ack, ClientFrame, Send, client_frame, server_frame},
};

use super::BODY_BYTES;

/// Kind of the echo frame that opens a connection.
pub(crate) const ECHO_HELLO: u8 = 0;
/// Kind of an echo message.
pub(crate) const ECHO_MESSAGE: u8 = 1;
/// Kind of an echo acknowledgement.
pub(crate) const ECHO_ACK: u8 = 2;
/// Kind of an echo reply.
pub(crate) const ECHO_REPLY: u8 = 3;
/// Bytes of an echo message: Columba's `Send` and `Deliver` are 178 and 205 with a body of 150.
const ECHO_MESSAGE_BYTES: usize = 192;
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
    /// The echo server's.
    Echo,
}

impl Dialect {
    /// The frame that sends a message which carries `times`.
    pub(crate) fn message(&self, client_seq: u64, times: Times) -> Bytes {
        match self {
            Self::Columba { to } => {
                let mut body = BytesMut::with_capacity(BODY_BYTES);
                times.put(&mut body);
                body.put_bytes(b'.', BODY_BYTES - body.len());
                let to_user = Bytes::copy_from_slice(to.as_bytes());
                let send = Send { client_seq, to_user, body: body.freeze(), ..Send::default() };
                encode(&ClientFrame { request_id: client_seq, kind: Some(client_frame::Kind::Send(send)) })
            }
            Self::Echo => {
                let mut frame = BytesMut::with_capacity(ECHO_MESSAGE_BYTES);
                frame.put_u8(ECHO_MESSAGE);
                frame.put_u64_le(client_seq);
                times.put(&mut frame);
                frame.put_bytes(b'.', ECHO_MESSAGE_BYTES - frame.len());
                frame.freeze()
            }
        }
    }

    /// The frame that acknowledges all of `chat` up to `seq`.
    pub(crate) fn ack(&self, chat: &Bytes, seq: u64) -> Bytes {
        match self {
            Self::Columba { .. } => {
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
            Self::Columba { .. } => Ok(match decode_server(frame)?.kind {
                Some(server_frame::Kind::Sent(sent)) => Event::Sent { client_seq: sent.client_seq },
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

    #[test]
    fn an_echoed_message_carries_its_times() {
        let sent = Times { due_ns: 99, written_ns: 100 };
        let event = Dialect::Echo.read(Dialect::Echo.message(7, sent)).unwrap();
        assert!(matches!(event, Event::Delivered { seq: 7, times, .. } if times == sent));
    }

    #[test]
    fn echo_frames_are_as_long_as_the_frames_they_stand_for() {
        let columba = Dialect::Columba { to: UserId::from_bytes([9; 16]) };
        let times = Times { due_ns: 1, written_ns: 1 };
        assert!(columba.message(1_000, times).len().abs_diff(ECHO_MESSAGE_BYTES) < 20);
        assert!(columba.ack(&Bytes::from_static(&[9; 16]), 1_000).len().abs_diff(ECHO_REPLY_BYTES) < 20);
    }
}
