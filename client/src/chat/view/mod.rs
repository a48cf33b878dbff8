//! What the user of `columba chat` sees and asks for: lines and events in, lines and requests out. No clock, no I/O.
//!
//! | module | what it holds |
//! |---|---|
//! | [`commands`] | what the user typed |
//! | [`devices`] | the account's devices |
//! | [`events`] | what the client tells |
//! | [`groups`] | groups |
//! | `messages` | messages on the screen |
//! | [`people`] | profiles |
//! | [`roster`] | contacts, blocked users, privacy |
//! | [`answers`] | what became of requests |
//!
//! Invariants
//! - Requests that are [`Ask::is_local`] are answered before anything else is handed in, so that their lines come in
//!   order, and an own message has its number before its fate is told.
//! - A line is taken only while [`View::takes_lines`].
//! - What was printed of the chosen person is marked read, once there is a connection.

mod answers;
mod commands;
mod devices;
mod events;
mod groups;
mod messages;
mod people;
mod roster;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceId, MessageSeq, UserId};

pub(super) use self::{
    devices::DevicesAnswer,
    roster::{RosterAnswer, RosterTold},
};
use super::{
    command::{GroupCommand, RosterCommand},
    groups::Groups,
    people::People,
    text::{messages, printable},
    ticks::Ticks,
};
use crate::{
    error::{Error, Result},
    limits::{CHAT_DRAIN_TIMEOUT, CHAT_QUIT_TIMEOUT},
    types::{
        Account, Carrier, ChatInfo, ChatReceipts, Fingerprint, GroupChange, HistoryPage, LinkRequest, Message,
        ProfileChange, Recipient, Sent, Timeline, Unsent, User,
    },
};

/// A line to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// What kind of line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Something about the program or the connection.
    Notice,
    /// Something went wrong, or was not done.
    Trouble,
    Message,
    Tick,
}

/// What the driver is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Print(Line),
    Ask(Ask),
}

/// A call of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Register { handle: String },
    Names,
    Chats,
    OwnChats,
    DeleteAccount { handle: String },
    Unsent,
    Certificate,
    Queue { to: Recipient, body: Bytes },
    Log { chat: ChatId },
    Find { handle: String, then: Then },
    History { chat: ChatId, before: MessageSeq, limit: u32 },
    Receipts { chat: ChatId, shown: bool },
    Read { chat: ChatId, seq: MessageSeq },
    Watch { user: UserId },
    BeginLink,
    FindLink { code: String, approves: bool },
    ApproveLink { code: String, request: LinkRequest },
    Devices,
    Rename { number: DeviceId, name: String },
    Revoke { number: DeviceId },
    Whois { handle: String },
    SetProfile { change: ProfileChange },
    Chat { chat: ChatId },
    Handle { user: UserId },
    Group { group: Option<ChatId>, command: GroupCommand },
    Roster { command: RosterCommand },
}

impl Ask {
    /// Whether it is answered without the server, at once.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Names | Self::Chats | Self::Unsent | Self::Certificate | Self::Queue { .. } | Self::Log { .. } => {
                true
            }
            Self::Register { .. }
            | Self::OwnChats
            | Self::DeleteAccount { .. }
            | Self::Find { .. }
            | Self::History { .. }
            | Self::Receipts { .. }
            | Self::Read { .. }
            | Self::Watch { .. }
            | Self::BeginLink
            | Self::FindLink { .. }
            | Self::ApproveLink { .. }
            | Self::Devices
            | Self::Rename { .. }
            | Self::Revoke { .. }
            | Self::Whois { .. }
            | Self::SetProfile { .. }
            | Self::Chat { .. }
            | Self::Handle { .. }
            | Self::Group { .. }
            | Self::Roster { .. } => false,
        }
    }
}

/// What to do with somebody who was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Choose,
    Learn,
}

/// What became of an [`Ask`].
#[derive(Debug)]
pub(super) enum Answer {
    Registered(Result<Account>),
    Names(BTreeMap<UserId, String>),
    Chats(Vec<ChatId>),
    OwnChats(Vec<ChatInfo>),
    AccountDeleted(Result<()>),
    Unsent(Vec<Unsent>),
    Certificate(Option<Fingerprint>),
    Queued { to: Recipient, body: Bytes, result: Result<ClientSeq> },
    Log { chat: ChatId, messages: Vec<Message> },
    Found { handle: String, then: Then, result: Result<UserId> },
    History { chat: ChatId, result: Result<HistoryPage> },
    Receipts { chat: ChatId, shown: bool, result: Result<ChatReceipts> },
    Read { chat: ChatId, seq: MessageSeq, result: Result<()> },
    Watching,
    Devices(DevicesAnswer),
    Whois { handle: String, result: Result<User> },
    ProfileSet(Result<()>),
    Chat(Result<ChatInfo>),
    Handle(Result<User>),
    Group { command: GroupCommand, result: Result<(Sent, GroupChange)> },
    Roster(RosterAnswer),
}

/// A line of standard input, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    TooLong,
    End,
}

/// The connection.
#[derive(Debug, PartialEq, Eq)]
enum Link {
    /// Why not, as it was told last.
    Offline(String),
    Open {
        carrier: Carrier,
        synced: bool,
    },
}

/// Whom the user writes to.
#[derive(Clone, Copy, Debug)]
struct Peer {
    to: Recipient,
    chat: ChatId,
    /// The oldest message that is on the screen without a hole behind it: where `/history` goes on.
    oldest: MessageSeq,
}

/// How far the user has read a chat.
#[derive(Debug, Default)]
struct Reading {
    shown: MessageSeq,
    told: MessageSeq,
    telling: Telling,
}

/// Whether the server is being told how far the user has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telling {
    #[default]
    Idle,
    Asked,
    /// Not to be tried again before the next message or connection.
    Failed,
}

/// The user wants to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// At the end of standard input.
    Drain,
    /// By `/quit`.
    Quit,
}

/// See the module.
pub(super) struct View {
    handle: String,
    server: String,
    /// Whether own lines are printed, because nobody sees them being typed.
    echo: bool,
    now_ms: u64,
    me: Option<Account>,
    link: Link,
    was_synced: bool,
    people: People,
    groups: Groups,
    ticks: Ticks,
    peer: Option<Peer>,
    /// What of the chosen chat is on the screen.
    timeline: Option<Timeline>,
    /// Whom to choose once the account is known.
    first_peer: Option<String>,
    /// Whether it waits to be linked where there is no account.
    links: bool,
    /// A person is being looked up: what was typed behind it waits.
    choosing: bool,
    reading: BTreeMap<ChatId, Reading>,
    /// Chats of the profile that may be groups: to be asked for once there is a connection.
    unknown_chats: Vec<ChatId>,
    /// Who was shown as writing, and when: not again within the time in which that lapses.
    writing: BTreeMap<(ChatId, UserId), u64>,
    /// Strangers whom the user was told how to name, or whose handle was asked for.
    hinted: BTreeSet<UserId>,
    /// Whether the account is to be deleted.
    deletes: bool,
    leaving: Option<Leaving>,
    ended: Option<Error>,
    outputs: VecDeque<Output>,
}

impl View {
    /// `echo`: whether own lines are printed, because nobody sees them being typed.
    pub(super) fn new(handle: &str, server: &str, echo: bool) -> Self {
        Self {
            handle: handle.to_owned(),
            server: server.to_owned(),
            echo,
            now_ms: 0,
            me: None,
            link: Link::Offline(String::new()),
            was_synced: false,
            people: People::default(),
            groups: Groups::default(),
            ticks: Ticks::default(),
            peer: None,
            timeline: None,
            first_peer: None,
            links: false,
            choosing: false,
            reading: BTreeMap::new(),
            unknown_chats: Vec::new(),
            writing: BTreeMap::new(),
            hinted: BTreeSet::new(),
            deletes: false,
            leaving: None,
            ended: None,
            outputs: VecDeque::new(),
        }
    }

    /// The first lines. `account`: the one of the profile; `with`: whom to choose at first.
    pub(super) fn begin(&mut self, account: Option<Account>, with: Option<&str>) {
        let (handle, server) = (&self.handle, printable(self.server.as_bytes()));
        let title = format!("columba chat as {handle} at {server}; /help lists the commands; times are UTC");
        self.notice(title);
        self.notice("there is no end-to-end encryption yet: the server can read every message".to_owned());
        self.ask(Ask::Names);
        match account {
            Some(account) => self.handle_account(account),
            None if self.links => self.ask(Ask::BeginLink),
            None => self.ask(Ask::Register { handle: self.handle.clone() }),
        }
        self.first_peer = with.map(str::to_owned);
    }

    /// The account is known: what an earlier run left belongs to it.
    fn handle_account(&mut self, account: Account) {
        self.people.learn(account.user, &account.handle);
        self.me = Some(account);
        self.ask(Ask::Chats);
        self.ask(Ask::Unsent);
    }

    /// The time, milliseconds since 1970.
    pub(super) fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.timeline.iter_mut().for_each(|timeline| timeline.forget_disappeared(now_ms));
    }

    /// What is to be done next.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether anything is.
    pub(super) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Nothing more is there for now: what was collected is said.
    pub(super) fn flush(&mut self) {
        for line in self.ticks.take_lines() {
            self.print(Tone::Tick, line);
        }
        if !self.is_online() {
            return;
        }
        let mut asks = Vec::new();
        for (chat, reading) in &mut self.reading {
            if reading.shown > reading.told && reading.telling == Telling::Idle {
                reading.telling = Telling::Asked;
                asks.push(Ask::Read { chat: *chat, seq: reading.shown });
            }
        }
        asks.into_iter().for_each(|ask| self.ask(ask));
    }

    /// Whether the next line may be handed in.
    pub(super) fn takes_lines(&self) -> bool {
        self.me.is_some() && !self.choosing && self.leaving.is_none()
    }

    /// How long to wait for [`Self::is_done`], once the user wants to leave.
    pub(super) fn leaves_within(&self) -> Option<Duration> {
        match self.leaving? {
            Leaving::Drain => Some(CHAT_DRAIN_TIMEOUT),
            Leaving::Quit => Some(CHAT_QUIT_TIMEOUT),
        }
    }

    /// Whether the user may leave: everything queued is stored, or cannot be now.
    pub(super) fn is_done(&self) -> bool {
        match self.leaving {
            None => false,
            Some(Leaving::Drain) => self.ticks.unstored() == 0 && self.was_synced,
            Some(Leaving::Quit) => self.ticks.unstored() == 0 || !self.is_online(),
        }
    }

    /// Whether answers to what was asked are waited for, when nothing else is left to do.
    pub(super) fn waits_for_answers(&self) -> bool {
        self.leaving == Some(Leaving::Drain)
    }

    /// The last words. An error where a script should know of it.
    ///
    /// # Errors
    /// Where the end of standard input was reached and not everything was done within its time.
    pub(super) fn end(&mut self) -> core::result::Result<(), String> {
        let unstored = self.ticks.unstored();
        let kept = format!("{} not stored yet; kept in the profile and sent the next time", messages(unstored));
        if self.leaving == Some(Leaving::Drain) && !self.is_done() {
            let Link::Offline(reason) = &self.link else {
                return Err(kept);
            };
            let what = if unstored > 0 { kept } else { "nothing was received".to_owned() };
            return Err(format!("{what} (offline: {reason})"));
        }
        if unstored > 0 {
            self.trouble(kept);
        }
        Ok(())
    }

    /// Why the session has ended for good, if it has.
    pub(super) fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    fn is_online(&self) -> bool {
        matches!(self.link, Link::Open { .. })
    }

    fn is_me(&self, user: UserId) -> bool {
        self.me.as_ref().is_some_and(|me| me.user == user)
    }

    /// The group, or the person of a 1:1 chat, if known.
    fn name_of_chat(&self, chat: ChatId) -> String {
        if self.groups.get(chat).is_some() {
            return self.groups.name(chat);
        }
        let me = self.me.as_ref().map(|me| me.user);
        let mut people = self.people.by_name().into_iter();
        let other = people.find(|(_, user, _)| me.is_some_and(|me| ChatId::direct(me, *user) == chat));
        other.map_or_else(|| "somebody unknown".to_owned(), |(name, _, _)| name)
    }

    /// From now on lines are for this chat.
    fn set_peer(&mut self, to: Recipient, chat: ChatId) {
        self.peer = Some(Peer { to, chat, oldest: MessageSeq::MAX });
        self.timeline = Some(Timeline::new(chat));
    }

    fn mark_shown(&mut self, chat: ChatId, seq: MessageSeq) {
        let reading = self.reading.entry(chat).or_default();
        if seq > reading.shown && reading.telling == Telling::Failed {
            reading.telling = Telling::Idle;
        }
        reading.shown = reading.shown.max(seq);
    }

    /// A message of the chosen chat is on the screen: `/history` goes on below it.
    fn mark_on_screen(&mut self, chat: ChatId, seq: MessageSeq) {
        if let Some(peer) = self.peer.as_mut().filter(|peer| peer.chat == chat) {
            peer.oldest = peer.oldest.min(seq);
        }
    }

    fn ask(&mut self, ask: Ask) {
        self.outputs.push_back(Output::Ask(ask));
    }

    fn notice(&mut self, text: String) {
        self.print(Tone::Notice, format!("* {text}"));
    }

    fn trouble(&mut self, text: String) {
        self.print(Tone::Trouble, format!("! {text}"));
    }

    fn print(&mut self, tone: Tone, text: String) {
        self.outputs.push_back(Output::Print(Line { tone, text }));
    }
}
