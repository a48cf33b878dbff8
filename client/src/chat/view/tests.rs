//! Golden texts of what the user sees, and of what is asked. Requests are lines that begin with `->`. Groups have a
//! file of their own.

mod groups;
mod messages;

use columba_wire::{Audience, ClientSeq, Code, DeviceId, Privacy, PrivacyChange, Role};

use super::*;
use crate::{
    chat::text::short_id,
    types::{ChatMember, Device, Event, LinkOffer, OwnAccount, Presence, Profile, Receipt, Roster, Sent},
};

const ADA: UserId = UserId::from_bytes([0xad; 16]);
const BOB: UserId = UserId::from_bytes([0xb0; 16]);
const CAROL: UserId = UserId::from_bytes([0xca; 16]);
/// 2023-11-14, 22:13 UTC.
const NOW_MS: u64 = 1_700_000_000_000;

/// A view, with a profile that knows nothing until it is told.
struct Try {
    view: View,
    next_client_seq: u64,
    names: BTreeMap<UserId, String>,
    unsent: Vec<Unsent>,
    log: Vec<Message>,
}

impl Try {
    fn new() -> Self {
        let mut view = View::new("ada", "127.0.0.1:7443", false);
        view.set_now(NOW_MS);
        Self { view, next_client_seq: 1, names: BTreeMap::new(), unsent: Vec::new(), log: Vec::new() }
    }

    /// Registered, connected, and bob chosen; what was said until then is dropped.
    fn with_bob() -> Self {
        let mut this = Self::new();
        this.names.insert(BOB, "bob".to_owned());
        this.view.begin(Some(account()), Some("bob"));
        this.event(connected());
        this.event(Event::Synced);
        this.said();
        this
    }

    fn typed(&mut self, line: &str) {
        assert!(self.view.takes_lines(), "not now: {line}");
        self.view.handle_typed(Typed::Line(line.to_owned()));
    }

    fn event(&mut self, event: Event) {
        self.view.handle_event(event);
    }

    fn answer(&mut self, answer: Answer) {
        self.view.handle_answer(answer);
    }

    /// Lines and requests since the last time. Local requests are answered, as the driver does.
    fn said(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            while let Some(output) = self.view.poll_output() {
                match output {
                    Output::Print(line) => said.push(line.text),
                    Output::Ask(ask) if ask.is_local() => self.answer_local(ask),
                    Output::Ask(ask) => said.push(asked(&ask)),
                }
            }
            self.view.flush();
            if !self.view.has_output() {
                return said;
            }
        }
    }

    fn answer_local(&mut self, ask: Ask) {
        let answer = match ask {
            Ask::Names => Answer::Names(self.names.clone()),
            Ask::Chats => Answer::Chats(Vec::new()),
            Ask::Unsent => Answer::Unsent(self.unsent.clone()),
            Ask::Certificate => Answer::Certificate(Some("ab".repeat(32).parse().unwrap())),
            Ask::Log { chat } => {
                let messages = self.log.iter().filter(|message| message.chat == chat).cloned().collect();
                Answer::Log { chat, messages }
            }
            Ask::Queue { to, body } => {
                let result = Ok(ClientSeq::new(self.next_client_seq));
                self.next_client_seq += 1;
                Answer::Queued { to, body, result }
            }
            other => panic!("not local: {other:?}"),
        };
        self.answer(answer);
    }
}

fn asked(ask: &Ask) -> String {
    match ask {
        Ask::Register { handle } => format!("-> register {handle}"),
        Ask::Find { handle, then } => format!("-> find {handle}, then {then:?}"),
        Ask::History { before, limit, .. } if *before == MessageSeq::MAX => format!("-> history, newest {limit}"),
        Ask::History { before, limit, .. } => format!("-> history below {before}, {limit}"),
        Ask::Receipts { .. } => "-> receipts".to_owned(),
        Ask::Read { seq, .. } => format!("-> read {seq}"),
        Ask::BeginLink => "-> begin link".to_owned(),
        Ask::Devices => "-> devices".to_owned(),
        Ask::FindLink { code, .. } => format!("-> find link {code}"),
        Ask::ApproveLink { code, .. } => format!("-> approve link {code}"),
        Ask::Rename { number, name } => format!("-> rename {number} {name}"),
        Ask::Revoke { number } => format!("-> revoke {number}"),
        Ask::Watch { user } => format!("-> watch {}", &user.to_string()[..2]),
        other => format!("-> {other:?}"),
    }
}

fn account() -> Account {
    Account { user: ADA, device: DeviceId::FIRST, handle: "ada".to_owned() }
}

fn connected() -> Event {
    Event::Connected { carrier: Carrier::Quic }
}

fn lost(seconds: u64) -> Event {
    let reason = Error::ConnectionLost("closed by the server".to_owned());
    Event::Disconnected { reason, retry_in: Some(Duration::from_secs(seconds)) }
}

fn message(sender: UserId, seq: u64, text: &str) -> Message {
    let other = if sender == ADA { BOB } else { sender };
    Message {
        chat: ChatId::direct(ADA, other),
        seq: MessageSeq::new(seq),
        sender,
        time_ms: NOW_MS,
        disappears_ms: None,
        body: text.to_owned().into(),
        change: None,
    }
}

fn from(sender: UserId, seq: u64, text: &str) -> Event {
    Event::Message(message(sender, seq, text))
}

fn stored(client_seq: u64, seq: u64) -> Event {
    let chat = ChatId::direct(ADA, BOB);
    Event::Sent(Sent { client_seq: ClientSeq::new(client_seq), chat, seq: MessageSeq::new(seq), time_ms: NOW_MS })
}

fn receipt(delivered: u64, read: u64) -> Receipt {
    let (delivered, read) = (MessageSeq::new(delivered), MessageSeq::new(read));
    Receipt { chat: ChatId::direct(ADA, BOB), user: Some(BOB), delivered, read }
}

fn refused(code: Code) -> Error {
    Error::Refused { code, message: code.name().to_owned() }
}

#[test]
fn a_newcomer_is_told_of_the_missing_encryption_before_anything_is_typed() {
    let mut ada = Try::new();
    ada.view.begin(None, None);
    assert_eq!(
        ada.said(),
        [
            "* columba chat as ada at 127.0.0.1:7443; /help lists the commands; times are UTC",
            "* there is no end-to-end encryption yet: the server can read every message",
            "-> register ada",
        ]
    );
    assert!(!ada.view.takes_lines(), "nothing can be sent without an account");
    ada.answer(Answer::Registered(Err(Error::TimedOut(Duration::from_secs(10)))));
    assert_eq!(ada.said(), ["-> register ada"], "the node may be started after its client");
    ada.event(Event::CertificatePinned { fingerprint: "ab".repeat(32).parse().unwrap() });
    ada.answer(Answer::Registered(Ok(account())));
    ada.event(connected());
    ada.event(Event::Synced);
    let said = ada.said();
    assert!(said[0].starts_with("* from now on only the certificate seen first is trusted: SHA-256 ababab"));
    assert_eq!(said[1..], ["* registered as ada, user adadadadadadadadadadadadadadadad", "* connected over QUIC"]);
    assert!(ada.view.takes_lines());
    ada.answer(Answer::Registered(Err(refused(Code::HandleTaken))));
    assert!(ada.view.ended().is_some());
}

#[test]
fn the_walk_of_the_readme() {
    let mut ada = Try::new();
    ada.view.begin(Some(account()), None);
    ada.event(connected());
    ada.event(Event::Synced);
    ada.said();
    ada.event(from(BOB, 1, "hello ada"));
    assert_eq!(
        ada.said(),
        [
            "22:13 [b0b0b0b0] hello ada",
            "* b0b0b0b0 has no name here: /with HANDLE finds people by their handles, /with b0b0b0b0 answers",
        ]
    );
    ada.log = vec![message(BOB, 1, "hello ada")];
    ada.typed("/with bob");
    assert_eq!(ada.said(), ["-> find bob, then Choose"]);
    ada.answer(Answer::Found { handle: "bob".to_owned(), then: Then::Choose, result: Ok(BOB) });
    assert_eq!(ada.said(), ["* writing to bob", "-> watch b0", "-> receipts", "22:13 bob: hello ada", "-> read 1"]);
    let (chat, seq) = (ChatId::direct(ADA, BOB), MessageSeq::new(1));
    ada.answer(Answer::Read { chat, seq, result: Ok(()) });
    ada.event(Event::Presence(Presence { user: BOB, online: true, last_seen_ms: None, devices_version: 1 }));
    ada.typed("hello bob");
    ada.typed("how are you?");
    assert_eq!(ada.said(), ["* bob is online"]);
    ada.event(stored(1, 2));
    ada.event(stored(2, 3));
    assert_eq!(ada.said(), ["#1-#2 stored"]);
    ada.event(Event::Receipt(receipt(3, 2)));
    assert_eq!(ada.said(), ["#1 read", "#2 delivered"]);
    ada.event(from(BOB, 4, "fine"));
    ada.event(from(BOB, 5, "and you?"));
    assert_eq!(ada.said(), ["22:13 bob: fine", "22:13 bob: and you?", "-> read 5"]);
    ada.event(Event::Presence(Presence { user: BOB, online: false, last_seen_ms: Some(NOW_MS), devices_version: 1 }));
    ada.event(Event::Presence(Presence { user: BOB, online: false, last_seen_ms: Some(NOW_MS), devices_version: 1 }));
    assert_eq!(ada.said(), ["* bob was last seen 22:13"]);
    ada.event(Event::Presence(Presence { user: BOB, online: false, last_seen_ms: Some(NOW_MS), devices_version: 2 }));
    assert_eq!(ada.said(), ["* bob has added or removed a device"]);
}

#[test]
fn what_is_typed_offline_is_numbered_and_its_fate_is_told() {
    let mut ada = Try::with_bob();
    ada.event(lost(1));
    ada.event(lost(2));
    ada.event(lost(7));
    ada.typed("one");
    ada.typed("two");
    let said = ada.said();
    assert_eq!(
        said,
        [
            "* offline: connection lost: closed by the server; retrying in 1 s",
            "* offline: connection lost: closed by the server; retrying in 7 s",
            "#1-#2 waits for a connection",
        ]
    );
    ada.event(connected());
    ada.event(stored(1, 1));
    ada.event(Event::SendFailed { client_seq: ClientSeq::new(2), reason: refused(Code::UnknownUser) });
    assert_eq!(
        ada.said(),
        ["* connected over QUIC", "! #2 to bob was not sent (refused: UNKNOWN_USER): two", "#1 stored"]
    );
    ada.event(Event::Synced);
    assert_eq!(ada.said(), ["-> receipts"]);
    ada.typed("three");
    let client_seq = ClientSeq::new(3);
    ada.said();
    ada.event(Event::SendFailed { client_seq, reason: Error::OutcomeUnknown { client_seq } });
    assert_eq!(
        ada.said(),
        ["! #3 to bob may be in the chat or not; /history tells (message 3: the outcome is not known): three"]
    );
}

#[test]
fn messages_that_an_earlier_run_left_are_shown_and_get_their_ticks() {
    let mut ada = Try::new();
    ada.names.insert(BOB, "bob".to_owned());
    ada.unsent = vec![Unsent { client_seq: ClientSeq::new(7), to: BOB.into(), body: "old".into() }];
    ada.log = vec![message(ADA, 1, "older"), message(BOB, 2, "hm")];
    ada.view.begin(Some(account()), Some("bob"));
    assert_eq!(
        ada.said()[2..],
        [
            "* #1 to bob was not sent before: old",
            "* writing to bob",
            "-> watch b0",
            "22:13 #2 ada: older",
            "22:13 bob: hm",
        ]
    );
    ada.event(connected());
    ada.event(stored(7, 3));
    ada.event(Event::Synced);
    assert_eq!(ada.said(), ["* connected over QUIC", "-> receipts", "#1 stored", "-> read 2"]);
    let own = Receipt { user: Some(ADA), ..receipt(9, 9) };
    let receipts = ChatReceipts { last: MessageSeq::new(3), members: vec![own, receipt(2, 1)] };
    ada.answer(Answer::Receipts { chat: ChatId::direct(ADA, BOB), shown: false, result: Ok(receipts) });
    assert_eq!(ada.said(), ["#2 read"], "what the asker has read says nothing about the other one");
}

#[test]
fn nothing_that_is_typed_behind_a_failed_choice_goes_to_the_one_before() {
    let mut ada = Try::with_bob();
    ada.typed("/with carl");
    assert!(!ada.view.takes_lines(), "the next line may be for carl");
    ada.said();
    let result = Err(refused(Code::UnknownUser));
    ada.answer(Answer::Found { handle: "carl".to_owned(), then: Then::Choose, result });
    ada.typed("a secret for carl");
    assert_eq!(
        ada.said(),
        [
            "! nobody is called carl (UNKNOWN_USER); nobody is chosen now",
            "! not sent: nobody is chosen; /with HANDLE first: a secret for carl",
        ]
    );
    ada.typed("/with Carl!");
    ada.typed("another");
    assert!(ada.said().iter().all(|line| line.starts_with("! ")));
}

#[test]
fn a_line_that_is_not_sent_is_said_not_to_be() {
    let mut ada = Try::with_bob();
    ada.typed("/hlep");
    ada.view.handle_typed(Typed::TooLong);
    let (body, result) = ("hi".into(), Err(Error::OutboxFull));
    ada.answer(Answer::Queued { to: BOB.into(), body, result });
    assert_eq!(
        ada.said(),
        [
            "! not sent: no such command. /help lists them; // sends a line that begins with /",
            "! not sent: the line has more than 65536 bytes (BODY_TOO_LARGE)",
            "! not sent (too many unsent messages): hi",
        ]
    );
}

#[test]
fn messages_of_others_are_counted_until_they_are_read() {
    let mut ada = Try::with_bob();
    ada.names.insert(CAROL, "carol".to_owned());
    ada.view.handle_answer(Answer::Names(ada.names.clone()));
    ada.event(from(CAROL, 1, "psst"));
    ada.event(from(CAROL, 2, "\x1b[31mred\r\n\u{202e}"));
    ada.typed("/chats");
    assert_eq!(
        ada.said(),
        ["22:13 [carol] psst", "22:13 [carol] ␛[31mred␍␊�", "* bob (b0b0b0b0), chosen", "* carol (cacacaca), 2 unread",]
    );
    ada.typed("/read");
    ada.typed("/chats");
    assert_eq!(ada.said(), ["* marked as read", "* bob (b0b0b0b0), chosen", "* carol (cacacaca)", "-> read 2"]);
    ada.event(from(CAROL, 3, "hey"));
    ada.typed("/with carol");
    let said = ada.said();
    assert_eq!(said[1..], ["* writing to carol", "-> watch ca", "-> receipts", "-> history, newest 10"]);
}

#[test]
fn reading_is_told_again_after_a_reconnect_and_not_for_ever() {
    let mut ada = Try::with_bob();
    let (chat, seq) = (ChatId::direct(ADA, BOB), MessageSeq::new(1));
    ada.event(from(BOB, 1, "a"));
    assert_eq!(ada.said(), ["22:13 bob: a", "-> read 1"]);
    ada.answer(Answer::Read { chat, seq, result: Err(refused(Code::RateLimited)) });
    assert!(ada.said().is_empty(), "a refusal is not answered with a storm");
    ada.event(lost(1));
    ada.event(connected());
    assert_eq!(ada.said()[2..], ["-> read 1"]);
    ada.event(from(BOB, 2, "b"));
    ada.event(from(BOB, 3, "c"));
    assert_eq!(ada.said(), ["22:13 bob: b", "22:13 bob: c"], "one at a time");
    ada.answer(Answer::Read { chat, seq, result: Ok(()) });
    assert_eq!(ada.said(), ["-> read 3"]);
    ada.event(lost(1));
    ada.answer(Answer::Read { chat, seq: MessageSeq::new(3), result: Err(Error::Closed) });
    ada.event(from(BOB, 4, "d"));
    assert_eq!(ada.said()[1..], ["22:13 bob: d"], "nothing is asked without a connection");
}

#[test]
fn history_goes_on_where_the_screen_ends() {
    let mut ada = Try::with_bob();
    let chat = ChatId::direct(ADA, BOB);
    ada.typed("hi");
    ada.event(stored(1, 31));
    ada.event(from(BOB, 32, "ho"));
    ada.said();
    ada.typed("/history 2");
    assert_eq!(ada.said(), ["-> history below 31, 2"]);
    let day = 24 * 60 * 60 * 1000;
    let old = Message { time_ms: NOW_MS - day, ..message(BOB, 29, "older") };
    let page = HistoryPage { messages: vec![message(BOB, 30, "old"), old], complete: false };
    ada.answer(Answer::History { chat, result: Ok(page) });
    ada.typed("/history");
    assert_eq!(ada.said(), ["2023-11-13 22:13 bob: older", "22:13 bob: old", "-> history below 29, 20"]);
    ada.answer(Answer::History { chat, result: Ok(HistoryPage { messages: Vec::new(), complete: true }) });
    ada.answer(Answer::History { chat, result: Err(refused(Code::UnknownChat)) });
    ada.answer(Answer::History { chat, result: Err(Error::TimedOut(Duration::from_secs(10))) });
    assert_eq!(ada.said(), ["* here the chat begins", "* no messages yet", "! no history: no answer within 10s"]);
}

#[test]
fn the_other_one_is_described() {
    let mut ada = Try::with_bob();
    ada.typed("/who");
    ada.typed("/me");
    assert_eq!(
        ada.said(),
        [
            "* bob is b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0",
            "* whether bob is online is not known",
            "-> receipts",
            "* ada, device 1 of user adadadadadadadadadadadadadadadad",
            "* server 127.0.0.1:7443: connected over QUIC",
            &format!("* certificate SHA-256 {}", "ab".repeat(32)),
        ]
    );
    let receipts = ChatReceipts { last: MessageSeq::new(9), members: vec![receipt(8, 7)] };
    ada.answer(Answer::Receipts { chat: ChatId::direct(ADA, BOB), shown: true, result: Ok(receipts) });
    assert_eq!(ada.said(), ["* bob has received up to message 8 of 9, and read up to 7"]);
    ada.typed("/name carol");
    ada.answer(Answer::Found { handle: "carol".to_owned(), then: Then::Learn, result: Ok(CAROL) });
    assert_eq!(ada.said(), ["-> find carol, then Learn", "* carol is cacacacacacacacacacacacacacacaca"]);
    ada.typed("hi");
    ada.event(stored(1, 10));
    assert_eq!(ada.said(), ["#1 stored"], "learning a name chooses nobody");
    ada.typed("/help");
    assert_eq!(ada.said().len(), super::super::command::HELP.len());
}

#[test]
fn who_writes_is_shown_to_a_person_and_not_again_and_again() {
    let mut ada = Try::with_bob();
    let typing = |by, chat, on| Event::Typing { chat, user: by, on };
    let (chat, other) = (ChatId::direct(ADA, BOB), ChatId::direct(ADA, CAROL));
    ada.event(typing(BOB, chat, true));
    ada.event(typing(BOB, chat, false));
    ada.event(typing(BOB, chat, true));
    ada.event(typing(CAROL, other, true));
    assert_eq!(ada.said(), ["* bob is writing"]);
    ada.event(typing(BOB, chat, false));
    ada.view.set_now(NOW_MS + 6_000);
    ada.event(typing(BOB, chat, true));
    assert_eq!(ada.said(), ["* bob is writing"]);
    ada.view.echo = true;
    ada.view.set_now(NOW_MS + 60_000);
    ada.event(typing(BOB, chat, true));
    assert!(ada.said().is_empty(), "a script reads what was written");
}

#[test]
fn a_gap_is_told() {
    let mut ada = Try::with_bob();
    let chat = ChatId::direct(ADA, BOB);
    ada.event(Event::Gap { chat, after: MessageSeq::new(4), before: MessageSeq::new(8) });
    assert_eq!(
        ada.said(),
        ["! messages 5 to 7 of the chat with bob did not come: asking again; else /history may have them"]
    );
}

#[test]
fn a_script_leaves_when_everything_is_stored_and_not_before() {
    let mut ada = Try::with_bob();
    ada.view.echo = true;
    ada.typed("last words");
    assert_eq!(ada.said(), ["22:13 #1 ada: last words"]);
    ada.view.handle_typed(Typed::End);
    assert_eq!(ada.said(), ["* waiting for 1 message to be stored; Ctrl-C leaves at once"]);
    assert!(!ada.view.is_done() && !ada.view.takes_lines());
    assert_eq!(ada.view.leaves_within(), Some(CHAT_DRAIN_TIMEOUT));
    let late = ada.view.end().unwrap_err();
    assert_eq!(late, "1 message not stored yet; kept in the profile and sent the next time");
    ada.event(stored(1, 1));
    assert!(ada.view.is_done());
    assert_eq!(ada.said(), ["#1 stored"]);
    assert_eq!(ada.view.end(), Ok(()));
}

#[test]
fn a_script_without_a_line_receives_what_waited() {
    let mut ada = Try::new();
    ada.view.begin(Some(account()), None);
    ada.said();
    ada.view.handle_typed(Typed::End);
    assert!(!ada.view.is_done(), "what waited has not come");
    ada.event(lost(1));
    assert_eq!(ada.view.end().unwrap_err(), "nothing was received (offline: connection lost: closed by the server)");
    ada.event(connected());
    assert!(!ada.view.is_done());
    ada.event(Event::Synced);
    assert!(ada.view.is_done());
}

#[test]
fn who_quits_waits_for_what_is_on_its_way_but_not_for_a_dead_server() {
    let mut ada = Try::with_bob();
    ada.typed("bye");
    ada.typed("/quit");
    ada.said();
    assert!(!ada.view.is_done() && ada.view.leaves_within() == Some(CHAT_QUIT_TIMEOUT));
    ada.event(lost(1));
    ada.said();
    assert!(ada.view.is_done());
    assert_eq!(ada.view.end(), Ok(()));
    assert_eq!(ada.said(), ["! 1 message not stored yet; kept in the profile and sent the next time"]);
}

#[test]
fn a_session_that_has_ended_says_why() {
    let mut ada = Try::with_bob();
    let reason = Error::Goaway { code: Code::Replaced, message: String::new() };
    ada.event(Event::Disconnected { reason, retry_in: None });
    assert!(matches!(ada.view.ended(), Some(Error::Goaway { code: Code::Replaced, .. })));
}

fn offer() -> LinkOffer {
    let code = "7KQ29XWC".parse().unwrap();
    LinkOffer { code, scanned: "columba:link/7KQ29XWC/".to_owned(), expires_in: Duration::from_secs(120) }
}

#[test]
fn a_new_device_shows_its_code_until_it_is_approved() {
    let mut ada = Try::new();
    ada.view.link_first();
    ada.view.begin(None, None);
    assert_eq!(ada.said()[2..], ["-> begin link"]);
    assert!(!ada.view.takes_lines());
    ada.answer(DevicesAnswer::Offered(Ok(offer())).into());
    let said = ada.said();
    assert_eq!(said.last().unwrap(), "* within 120 s, on a device of the account: /link 7KQ2-9XWC");
    assert!(said[..said.len() - 1].iter().all(|line| line.chars().all(|c| " █▀▄".contains(c))), "{said:?}");
    ada.event(Event::LinkFailed { reason: refused(Code::LinkUnknown) });
    assert_eq!(ada.said(), ["* not linked (refused: LINK_UNKNOWN): here is a new code", "-> begin link"]);
    ada.answer(DevicesAnswer::Offered(Ok(offer())).into());
    ada.said();
    ada.event(Event::Linked(Account { device: DeviceId::new(2).unwrap(), ..account() }));
    assert_eq!(ada.said(), ["* linked: this is device 2 of ada", "-> OwnChats"]);
    assert!(ada.view.takes_lines());
    // In which chats the account is, and with whom.
    let member = |user| ChatMember { user, role: Role::Member, from: MessageSeq::new(1) };
    let members = vec![member(ADA), member(BOB)];
    let [first, last] = [1, 9].map(MessageSeq::new);
    let chat = ChatInfo { chat: ChatId::direct(ADA, BOB), first, last, group: None, invite: None, members, timer_s: 0 };
    ada.answer(Answer::OwnChats(vec![chat]));
    let asked = ada.said();
    assert!(asked.contains(&format!("-> Handle {{ user: {BOB:?} }}")), "{asked:?}");
    ada.typed("/chats");
    assert!(ada.said().iter().all(|line| !line.contains('#')), "it is no group");
    ada.event(Event::Linked(Account { handle: "bob".to_owned(), ..account() }));
    assert!(matches!(ada.view.ended(), Some(Error::AlreadyRegistered { .. })), "--as names another account");
}

#[test]
fn a_device_is_looked_at_before_it_is_approved() {
    let mut ada = Try::with_bob();
    let request = LinkRequest { key: [7; 32], name: "lap\u{1b}top".to_owned(), agent: "evil/1".to_owned() };
    ada.typed("/link 7kq2 9xwc");
    let found = |approves| DevicesAnswer::Found { code: "7kq2 9xwc".to_owned(), approves, result: Ok(request.clone()) };
    ada.answer(found(false).into());
    assert_eq!(
        ada.said(),
        [
            "-> find link 7kq2 9xwc",
            "* a device that calls itself \"lap␛top\" (evil/1) waits; once linked it reads and writes everything. If \
             it is yours: /link 7kq2 9xwc yes"
        ]
    );
    ada.typed("/link 7kq2 9xwc yes");
    ada.answer(found(true).into());
    let two = DeviceId::new(2).unwrap();
    ada.answer(DevicesAnswer::Added { name: "laptop".to_owned(), result: Ok(two) }.into());
    assert_eq!(
        ada.said(),
        ["-> find link 7kq2 9xwc", "-> approve link 7kq2 9xwc", "* device 2, laptop, belongs to this account now"]
    );
    ada.typed("/link 00000000");
    let result = Err(refused(Code::LinkUnknown));
    ada.answer(DevicesAnswer::Found { code: "00000000".to_owned(), approves: false, result }.into());
    assert_eq!(ada.said()[1..], ["! no device waits for that: refused: LINK_UNKNOWN"]);
}

#[test]
fn devices_are_listed_named_and_revoked() {
    let mut ada = Try::with_bob();
    let two = DeviceId::new(2).unwrap();
    let device =
        |number, name: &str, online| Device { number, key: [7; 32], name: name.to_owned(), created_ms: NOW_MS, online };
    ada.typed("/devices");
    let listed = vec![device(DeviceId::FIRST, "", true), device(two, "laptop", false)];
    ada.answer(DevicesAnswer::Listed(Ok(listed)).into());
    assert_eq!(
        ada.said(),
        ["-> devices", "* device 1, since 22:13, online, this one", "* device 2, laptop, since 22:13"]
    );
    ada.typed("/rename 2 old laptop");
    ada.answer(DevicesAnswer::Renamed { number: two, result: Ok(()) }.into());
    assert_eq!(ada.said(), ["-> rename 2 old laptop", "* device 2 has a new name"]);
    ada.typed("/revoke 2");
    ada.answer(DevicesAnswer::Revoked { number: two, result: Err(refused(Code::NoSpace)) }.into());
    assert_eq!(ada.said(), ["-> revoke 2", "! device 2 was not revoked: refused: NO_SPACE"]);
    ada.event(Event::Revoked);
    assert_eq!(ada.said(), ["! this device was revoked from another one"]);
}

#[test]
fn an_account_is_deleted_by_its_name() {
    let mut ada = Try::with_bob();
    ada.typed("/delete-account");
    assert_eq!(ada.said(), ["! /delete-account needs one handle, as in: /delete-account bob"]);
    ada.typed("/delete-account bob");
    ada.answer(Answer::AccountDeleted(Err(refused(Code::InvalidArgument))));
    let asked = |handle: &str| format!("-> DeleteAccount {{ handle: {handle:?} }}");
    assert_eq!(ada.said(), [asked("bob"), "! the account was not deleted: refused: INVALID_ARGUMENT".to_owned()]);
    ada.typed("/delete-account ada");
    ada.event(Event::Revoked);
    ada.answer(Answer::AccountDeleted(Ok(())));
    let reason = Error::Goaway { code: Code::Revoked, message: String::new() };
    ada.event(Event::Disconnected { reason, retry_in: None });
    assert_eq!(ada.said(), [asked("ada"), "* this account is deleted".to_owned()]);
    assert!(ada.view.is_done() && ada.view.ended().is_none() && ada.view.end().is_ok(), "as it was asked for");
}

#[test]
fn what_people_tell_about_themselves_is_shown_with_care() {
    let mut ada = Try::with_bob();
    ada.typed("/whois carol");
    ada.typed("/profile name Ada");
    let change = ProfileChange { name: Some("Ada".into()), ..ProfileChange::default() };
    let set = format!("-> {:?}", Ask::SetProfile { change });
    assert_eq!(ada.said(), [r#"-> Whois { handle: "carol" }"#.to_owned(), set]);
    let profile = Profile { name: "Carol\u{1b}[2J".into(), ..Profile::default() };
    let carol = User { user: CAROL, handle: "carol".to_owned(), profile, profile_version: 1 };
    ada.answer(Answer::Whois { handle: "carol".to_owned(), result: Ok(carol.clone()) });
    ada.answer(Answer::ProfileSet(Ok(())));
    ada.answer(Answer::ProfileSet(Err(Error::TimedOut(Duration::from_secs(1)))));
    ada.answer(Answer::Whois { handle: "dave".to_owned(), result: Err(refused(Code::UnknownUser)) });
    ada.event(Event::KeysLow { one_time_keys: 0 });
    let said = ada.said();
    assert!(said.iter().all(|line| !line.contains('\u{1b}')), "{said:?}");
    assert_eq!(said[0], format!("* carol is {CAROL}"));
    assert!(said[1].starts_with("* name: Carol"), "{said:?}");
    assert_eq!(said[2], "* your profile is stored");
    assert!(said[3].starts_with("! your profile was not changed: "), "{said:?}");
    assert_eq!(said[4..], ["! nobody is called dave (UNKNOWN_USER)"]);
    let user = User { profile: Profile { name: "A.".into(), ..Profile::default() }, ..carol };
    ada.event(Event::AccountChanged(OwnAccount { user, privacy: Privacy::default(), roster_version: 0 }));
    assert_eq!(ada.said(), ["* another device of yours has changed your account; name: A."]);
}

#[test]
fn who_is_blocked_and_who_may_know_what_is_said() {
    let mut ada = Try::with_bob();
    let privacy =
        |change: PrivacyChange| (RosterCommand::Privacy(change), RosterTold::Privacy(Privacy::default().with(change)));
    let roster = Roster { contacts: vec![CAROL], blocked: vec![BOB], version: 1 };
    let hidden = PrivacyChange { online: Some(Audience::Nobody), ..PrivacyChange::default() };
    for (line, (command, told), lines) in [
        (
            "/block bob",
            (RosterCommand::Block { handle: "bob".to_owned(), blocked: true }, RosterTold::Done),
            vec!["* bob is blocked".to_owned()],
        ),
        (
            "/contacts",
            (RosterCommand::Show, RosterTold::Roster(roster)),
            vec![
                format!("-> {:?}", Ask::Handle { user: CAROL }),
                format!("* contacts: {}", short_id(CAROL)),
                "* blocked: bob".to_owned(),
            ],
        ),
        (
            "/contacts add bob",
            (RosterCommand::Contacts { handles: vec!["bob".to_owned()], known: true }, RosterTold::Done),
            vec!["* your contacts are stored".to_owned()],
        ),
        (
            "/privacy online nobody",
            privacy(hidden),
            [
                "* when you were last online: everyone",
                "* that you are online: nobody",
                "* may let you into groups: everyone",
                "* what you have read: told",
            ]
            .map(str::to_owned)
            .to_vec(),
        ),
    ] {
        ada.typed(line);
        assert_eq!(ada.said(), [format!("-> {:?}", Ask::Roster { command: command.clone() })]);
        ada.answer(RosterAnswer { command, result: Ok(told) }.into());
        assert_eq!(ada.said(), lines, "{line}");
    }
    let command = RosterCommand::Block { handle: "bob".to_owned(), blocked: true };
    ada.answer(RosterAnswer { command, result: Err(refused(Code::TooMany)) }.into());
    let said = ada.said();
    assert!(said[0].starts_with("! bob was not blocked: ") && said[0].contains("TOO_MANY"), "{said:?}");
}
