//! A client that speaks the protocol frame by frame, and says what it is told to.

use std::collections::VecDeque;

use bytes::Bytes;
use columba_wire::{
    ChatId, Code, DeviceAddress, DeviceId, UserId,
    auth::{Binding, login_bytes, register_bytes},
    frame::{decode_server, encode},
    v1::{self, ClientFrame, ServerFrame, client_frame::Kind as Request, server_frame::Kind},
};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::{
    link::{Link, Over},
    node::{Node, soon},
};

/// A device: its key, and the user it is of once it is registered.
#[derive(Clone)]
pub(crate) struct Person {
    /// The device's key.
    pub(crate) key: SigningKey,
    /// The handle.
    pub(crate) handle: String,
    /// The device's address; meaningless until registered.
    pub(crate) address: DeviceAddress,
}

impl Person {
    /// Somebody with a fresh key.
    pub(crate) fn new(handle: &str) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let address = DeviceAddress { user: UserId::from_bytes([0; 16]), device: DeviceId::FIRST };
        Self { key: SigningKey::from_bytes(&seed), handle: handle.to_owned(), address }
    }

    /// The user.
    pub(crate) fn user(&self) -> UserId {
        self.address.user
    }

    /// A login with this nonce, as bound to this.
    pub(crate) fn login(&self, nonce: &[u8; 32], binding: &Binding) -> Request {
        let signature = self.key.sign(&login_bytes(nonce, binding, self.address));
        Request::Login(v1::Login {
            user_id: id(self.user().as_bytes()),
            device_id: self.address.device.get(),
            binding: binding.kind.into(),
            signature: Bytes::copy_from_slice(&signature.to_bytes()),
        })
    }

    /// A registration with this nonce, as bound to this.
    pub(crate) fn register(&self, nonce: &[u8; 32], binding: &Binding, credential: &str) -> Request {
        let device_key = self.key.verifying_key().to_bytes();
        let signature = self.key.sign(&register_bytes(nonce, binding, &device_key, &self.handle));
        Request::Register(v1::Register {
            handle: self.handle.clone(),
            device_key: id(&device_key),
            binding: binding.kind.into(),
            signature: Bytes::copy_from_slice(&signature.to_bytes()),
            credential: credential.to_owned(),
            device_name: "test".to_owned(),
        })
    }
}

/// Bytes of an id.
pub(crate) fn id(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The greeting of a client that knows nothing beyond the base.
pub(crate) fn hello() -> Request {
    hello_with(0)
}

/// The greeting of one that has these capabilities.
pub(crate) fn hello_with(capabilities: u64) -> Request {
    Request::Hello(v1::Hello { versions: vec![1], capabilities, agent: "it/1".to_owned() })
}

/// A message for somebody.
pub(crate) fn send(client_seq: u64, to: UserId, body: impl Into<Bytes>) -> Request {
    Request::Send(v1::Send { client_seq, to_user: id(to.as_bytes()), body: body.into(), ..v1::Send::default() })
}

/// An acknowledgement.
pub(crate) fn ack(chat: ChatId, seq: u64) -> Request {
    Request::Ack(v1::Ack { chat_id: id(chat.as_bytes()), seq })
}

/// Wants to know whether somebody is there.
pub(crate) fn watch(user: UserId) -> Request {
    Request::SubscribePresence(v1::SubscribePresence { user_ids: vec![id(user.as_bytes())] })
}

/// The next presence of somebody that a session is told.
pub(crate) async fn presence(raw: &mut Raw, of: UserId) -> v1::Presence {
    let of = id(of.as_bytes());
    raw.expect("a presence", |kind| match kind {
        Kind::Presence(presence) if presence.user_id == of => Some(presence),
        _ => None,
    })
    .await
}

/// A connection with a client that does as it is told.
pub(crate) struct Raw {
    /// The connection, to break rules with.
    pub(crate) link: Link,
    /// What a signature on it may be bound to.
    pub(crate) binding: Binding,
    last_request: u64,
    /// What came while an answer was awaited.
    aside: VecDeque<ServerFrame>,
}

impl Raw {
    /// Connects.
    pub(crate) async fn connect(node: &Node, over: Over) -> Self {
        let (link, binding) = soon("a connection", Link::connect(node, over)).await;
        Self::over(link, binding)
    }

    /// On a connection that is there.
    pub(crate) fn over(link: Link, binding: Binding) -> Self {
        Self { link, binding, last_request: 0, aside: VecDeque::new() }
    }

    /// Connects and registers somebody new.
    pub(crate) async fn register(node: &Node, over: Over, person: &mut Person) -> Self {
        let mut raw = Self::connect(node, over).await;
        raw.try_register(person, "").await.unwrap_or_else(|code| panic!("{}: {code}", person.handle));
        raw
    }

    /// Connects and logs somebody in.
    pub(crate) async fn login(node: &Node, over: Over, person: &Person) -> Self {
        let mut raw = Self::connect(node, over).await;
        raw.try_login(person).await.unwrap_or_else(|code| panic!("{}: {code}", person.handle));
        raw
    }

    /// Says hello; the nonce.
    pub(crate) async fn challenge(&mut self) -> [u8; 32] {
        match self.ask(hello()).await {
            Ok(Kind::Challenge(challenge)) => challenge.nonce[..].try_into().unwrap(),
            other => panic!("no challenge: {other:?}"),
        }
    }

    /// Registers; takes over the user's id.
    pub(crate) async fn try_register(&mut self, person: &mut Person, credential: &str) -> Result<(), Code> {
        let nonce = self.challenge().await;
        let Kind::Registered(registered) = self.ask(person.register(&nonce, &self.binding, credential)).await? else {
            panic!("another answer to Register");
        };
        person.address.user = UserId::try_from(&registered.user_id[..]).unwrap();
        person.address.device = DeviceId::new(registered.device_id).unwrap();
        let welcome = self.receive().await.expect("a welcome");
        assert!(matches!(welcome.kind, Some(Kind::Welcome(_))) && welcome.request_id == 0, "{welcome:?}");
        Ok(())
    }

    /// Logs in.
    pub(crate) async fn try_login(&mut self, person: &Person) -> Result<(), Code> {
        let nonce = self.challenge().await;
        self.answer_challenge(person, nonce).await
    }

    /// Logs in with these capabilities; those that both sides have.
    pub(crate) async fn login_with(&mut self, person: &Person, capabilities: u64) -> u64 {
        let Ok(Kind::Challenge(challenge)) = self.ask(hello_with(capabilities)).await else { panic!("no challenge") };
        self.answer_challenge(person, challenge.nonce[..].try_into().unwrap()).await.unwrap();
        challenge.capabilities
    }

    async fn answer_challenge(&mut self, person: &Person, nonce: [u8; 32]) -> Result<(), Code> {
        match self.ask(person.login(&nonce, &self.binding)).await? {
            Kind::Welcome(_) => Ok(()),
            other => panic!("another answer to Login: {other:?}"),
        }
    }

    /// Sends a request; its number.
    pub(crate) async fn request(&mut self, kind: Request) -> u64 {
        self.last_request += 1;
        let frame = encode(&ClientFrame { request_id: self.last_request, kind: Some(kind) });
        soon("a frame is sent", self.link.send(&frame)).await;
        self.last_request
    }

    /// Sends a request and waits for its answer; what else comes is kept for [`Self::receive`].
    pub(crate) async fn ask(&mut self, kind: Request) -> Result<Kind, Code> {
        let number = self.request(kind).await;
        loop {
            let Some(frame) = self.next().await else { panic!("closed before the answer to request {number}") };
            match frame {
                ServerFrame { request_id, kind: Some(kind) } if request_id == number => {
                    return match kind {
                        Kind::Error(error) => Err(Code::from_number(error.code).unwrap()),
                        kind => Ok(kind),
                    };
                }
                other => self.aside.push_back(other),
            }
        }
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn receive(&mut self) -> Option<ServerFrame> {
        match self.aside.pop_front() {
            Some(frame) => Some(frame),
            None => self.next().await,
        }
    }

    async fn next(&mut self) -> Option<ServerFrame> {
        let frame = soon("a frame, or the end", self.link.receive()).await?;
        Some(decode_server(frame).unwrap())
    }

    /// The next frame of a kind; others are dropped.
    pub(crate) async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(Kind) -> Option<T>) -> T {
        loop {
            let Some(frame) = self.receive().await else { panic!("closed before {what}") };
            if let Some(picked) = frame.kind.and_then(&mut pick) {
                return picked;
            }
        }
    }

    /// The next message, which is acknowledged.
    pub(crate) async fn delivered(&mut self) -> v1::Deliver {
        let pick = |kind| if let Kind::Deliver(deliver) = kind { Some(deliver) } else { None };
        let deliver = self.expect("a message", pick).await;
        let chat = ChatId::try_from(&deliver.chat_id[..]).unwrap();
        self.request(ack(chat, deliver.seq)).await;
        deliver
    }

    /// Waits for the connection to end: the code of the last error or goaway before that.
    pub(crate) async fn ended(&mut self) -> Option<Code> {
        let mut last = None;
        while let Some(frame) = self.receive().await {
            match frame.kind {
                Some(Kind::Error(error)) => last = Code::from_number(error.code),
                Some(Kind::Goaway(goaway)) => last = Code::from_number(goaway.code),
                _ => {}
            }
        }
        last
    }
}
