//! The session against a server that is played by hand: what goes out, what is told, what is kept.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sending`] | messages: none lost, none twice, none out of order |
//! | [`delivery`] | messages of others: each told once, acknowledged when it is kept |
//! | [`groups`] | groups: made, changed, told |
//! | [`requests`] | other requests |
//! | [`signals`] | what is said at once or never |
//! | [`linking`] | from a code to an account; the end of a device |
//! | [`ends`] | handshake, heartbeat, reconnect, and the end |

mod delivery;
mod ends;
mod groups;
mod linking;
mod requests;
mod sending;
mod signals;

use bytes::Bytes;
use columba_wire::{
    Code, DeviceAddress, DeviceId,
    auth::{login_bytes, register_bytes},
    frame::FrameError,
    v1::{ServerFrame, server_frame},
};
use ed25519_dalek::{Signature, Verifier as _};

use super::*;
use crate::{
    limits::{OUTBOX_MESSAGES_MAX, RECONNECT_MAX, RECONNECT_MIN, REQUESTS_MAX, RESEND_MIN},
    types::{Carrier, Fingerprint, GroupChange, Recipient},
};

const ADA: UserId = UserId::from_bytes([1; 16]);
const BOB: UserId = UserId::from_bytes([2; 16]);
const CAROL: UserId = UserId::from_bytes([3; 16]);
const NONCE: [u8; 32] = [9; 32];
const PATIENCE: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(30);

fn names() -> Names {
    Names { agent: "test/1".to_owned(), device: "laptop".to_owned() }
}

/// A session, its clock, and all that came out of it.
struct Try {
    session: Session,
    now: Duration,
    in_flight_max: u32,
    records: Vec<Record>,
    events: Vec<Event>,
    replies: Vec<(u64, Result<Reply, Error>)>,
    next_token: u64,
}

impl Try {
    fn of(kept: Kept) -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        Self {
            session: Session::new(key, names(), PATIENCE, kept),
            now: Duration::from_secs(1),
            in_flight_max: 64,
            records: Vec::new(),
            events: Vec::new(),
            replies: Vec::new(),
            next_token: 100,
        }
    }

    fn registered() -> Self {
        Self::of(Kept { account: Some(account()), complete: true, ..Kept::default() })
    }

    /// Registered, logged in and synced.
    fn open() -> Self {
        let mut this = Self::registered();
        this.connect();
        this
    }

    fn connect(&mut self) {
        assert!(self.session.wants_connection(self.now));
        self.session.handle_connected(self.now, Binding::tls_exporter([5; 32]));
        assert!(matches!(self.frame(), Some(Kind::Hello(_))));
        self.server(1, challenge());
        assert!(matches!(self.frame(), Some(Kind::Login(_))));
        self.server(1, self.welcome());
        self.server(0, server_frame::Kind::Synced(v1::Synced {}));
    }

    fn welcome(&self) -> server_frame::Kind {
        server_frame::Kind::Welcome(v1::Welcome {
            user_id: id_bytes(ADA.as_bytes()),
            device_id: 1,
            heartbeat_ms: 30_000,
            sends_in_flight_max: self.in_flight_max,
            one_time_keys: 100,
            ..v1::Welcome::default()
        })
    }

    /// The server says something.
    fn server(&mut self, request_id: u64, kind: server_frame::Kind) {
        let frame = ServerFrame { request_id, kind: Some(kind) };
        self.session.handle_frame(self.now, Carrier::Quic, Ok(frame));
        self.carry_out();
    }

    fn refuse(&mut self, request_id: u64, code: Code, retry_after_ms: u32) {
        let error = v1::Error { code: code.number(), message: String::new(), retry_after_ms };
        self.server(request_id, server_frame::Kind::Error(error));
    }

    fn deliver(&mut self, seq: u64) {
        self.deliver_from(BOB, seq);
    }

    fn deliver_from(&mut self, sender: UserId, seq: u64) {
        let deliver = v1::Deliver {
            chat_id: id_bytes(chat().as_bytes()),
            seq,
            sender_user: id_bytes(sender.as_bytes()),
            sender_device: 1,
            body: Bytes::from(format!("body {seq}")),
            ..v1::Deliver::default()
        };
        self.server(0, server_frame::Kind::Deliver(deliver));
    }

    fn sent(&mut self, client_seq: u64, seq: u64) {
        let chat_id = id_bytes(chat().as_bytes());
        let sent = v1::Sent { client_seq, chat_id, seq, ..v1::Sent::default() };
        self.server(2 * client_seq, server_frame::Kind::Sent(sent));
    }

    fn queue(&mut self) {
        self.send(None);
    }

    fn send(&mut self, patience: Option<Duration>) -> u64 {
        let what = Outbound::Message { to: BOB.into(), body: Bytes::from_static(b"hi") };
        let outgoing = Outgoing { what, patience };
        let token = self.token();
        self.session.handle_send(self.now, Token(token), outgoing);
        self.carry_out();
        token
    }

    fn request(&mut self, kind: Kind) -> u64 {
        let token = self.token();
        self.session.handle_request(self.now, Token(token), kind);
        self.carry_out();
        token
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn take(&mut self, seq: u64) {
        self.session.handle_taken(chat(), MessageSeq::new(seq));
        self.carry_out();
    }

    fn lose(&mut self) {
        self.session.handle_disconnected(self.now, Error::ConnectionLost("cut".to_owned()), 0);
        self.carry_out();
    }

    /// Loses the connection and makes it again as soon as that is allowed.
    fn reconnect(&mut self) {
        self.lose();
        self.now = self.session.poll_timeout(self.now).expect("it is tried again");
        self.connect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        self.carry_out();
    }

    /// Does as the driver does.
    fn carry_out(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Record(record) => self.records.push(record),
                Output::Account(_) => {}
                Output::Event(event) => self.events.push(event),
                Output::Reply(token, reply) => self.replies.push((token.0, reply)),
                Output::Disconnect(reason) => self.session.handle_disconnected(self.now, reason, 0),
            }
        }
    }

    fn frame(&mut self) -> Option<Kind> {
        let ClientFrame { request_id, kind } = self.session.poll_frame(self.now)?;
        assert_ne!(request_id, 0, "PROTOCOL.md: any number but 0");
        kind
    }

    /// Everything that goes out now, in short.
    fn frames(&mut self) -> Vec<String> {
        let mut frames = Vec::new();
        while let Some(kind) = self.frame() {
            frames.push(match kind {
                Kind::Send(send) => format!("send {}", send.client_seq),
                Kind::Ack(ack) => format!("ack {}", ack.seq),
                Kind::Ping(_) => "ping".to_owned(),
                Kind::Bye(_) => "bye".to_owned(),
                Kind::Read(read) => format!("read {}", read.seq),
                Kind::SubscribePresence(subscribe) => format!("watch {}", subscribe.user_ids.len()),
                other => format!("{other:?}"),
            });
        }
        frames
    }

    fn reply(&mut self, token: u64) -> Result<Reply, Error> {
        let at = self.replies.iter().position(|(of, _)| *of == token).expect("the call was answered");
        self.replies.remove(at).1
    }

    /// The events since the last time, in short. Those of the connection are left out.
    fn told(&mut self) -> Vec<String> {
        let short = |event| match event {
            Event::Connected { .. } | Event::Disconnected { .. } | Event::Synced => None,
            Event::Message(message) => Some(format!("message {}", message.seq)),
            Event::Gap { after, before, .. } => Some(format!("gap {after}..{before}")),
            Event::Sent(sent) => Some(format!("sent {} at {}", sent.client_seq, sent.seq)),
            Event::SendFailed { client_seq, reason } => Some(format!("failed {client_seq}: {reason}")),
            other => Some(format!("{other:?}")),
        };
        self.events.drain(..).filter_map(short).collect()
    }

    fn last_wait(&self) -> Option<Duration> {
        let last = self.events.iter().rev().find_map(|event| match event {
            Event::Disconnected { retry_in, .. } => Some(*retry_in),
            _ => None,
        });
        last.expect("it was disconnected")
    }
}

fn account() -> Account {
    Account { user: ADA, device: DeviceId::FIRST, handle: "ada".to_owned() }
}

fn chat() -> ChatId {
    ChatId::direct(ADA, BOB)
}

fn challenge() -> server_frame::Kind {
    server_frame::Kind::Challenge(v1::Challenge {
        version: 1,
        nonce: Bytes::copy_from_slice(&NONCE),
        ..v1::Challenge::default()
    })
}

fn goaway(code: Code, reconnect_after_ms: u32) -> server_frame::Kind {
    server_frame::Kind::Goaway(v1::Goaway { code: code.number(), message: String::new(), reconnect_after_ms })
}

fn read(seq: u64) -> Kind {
    Kind::Read(v1::Read { chat_id: id_bytes(chat().as_bytes()), seq })
}
