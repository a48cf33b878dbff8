//! A typed line, understood.

use columba_wire::{
    Audience, DeviceId, InviteLink, MessageSeq, PrivacyChange,
    limits::{
        BODY_BYTES_MAX, DEVICE_NAME_BYTES_MAX, GROUP_NAME_BYTES_MAX, HISTORY_PAGE_MAX, PROFILE_FIELD_BYTES_MAX,
        TIMER_S_MAX,
    },
};

use super::text::parse_span;
use crate::{
    limits::{CHAT_HISTORY_SHOWN, CHAT_SHOWN, CHAT_SHOWN_MAX, EMOJI_BYTES_MAX},
    types::{MessageBody, MessageKind, ProfileChange, Role},
};

/// Hours that a link may be good for, where it is not for ever: a year.
const INVITE_HOURS_MAX: u32 = 24 * 365;

/// What `/help` says.
pub(super) const HELP: &[&str] = &[
    "/with HANDLE   choose whom to write to; every line without a / is then sent",
    "/history [N]   older messages of this chat, 20 or N (1 to 100)",
    "/show [N]      the newest 20 or N messages on the screen as they stand, with their numbers",
    "/reply NUMBER TEXT    answer a message",
    "/react NUMBER EMOJI   react to a message; without EMOJI take that back",
    "/edit NUMBER TEXT     say something else in a message of yours",
    "/delete NUMBER        delete a message for everyone; in a group an admin deletes those of others too",
    "/who           how far the other one is: online, delivered, read",
    "/chats         the people and groups you know, and what is unread",
    "/group         who is in the chosen group; /with #NAME chooses one",
    "/group new NAME HANDLE ...     make a group; a NAME of several words in \"quotes\"",
    "/group add|remove HANDLE ...   let somebody in, or put somebody out",
    "/group admin|member|owner HANDLE   what somebody may do",
    "/group name NAME; /group announce on|off; /group leave",
    "/group invite [HOURS]          make a link by which others come in; /group uninvite ends it",
    "/join LINK     come into a group by a link",
    "/timer SPAN    what is written from now on disappears, as in: /timer 7d, 1h, 30m, 10s; or off",
    "/read          mark all that was shown as read, that of others too",
    "/name HANDLE   learn whose id is behind a handle",
    "/devices       the devices of this account",
    "/link CODE     who waits to be linked behind a code; /link CODE yes links it",
    "/rename N NAME give device N another name",
    "/revoke N      end device N: it reads and writes nothing more",
    "/whois HANDLE  what somebody tells about itself",
    "/profile name|about [TEXT]  tell something about yourself, or take it back",
    "/block HANDLE  neither of you sends the other anything; /unblock HANDLE ends it",
    "/contacts [add|remove HANDLE ...]   whom you know and have blocked",
    "/privacy [seen|online|groups everyone|contacts|nobody] [receipts on|off]   what others may know and do",
    "/delete-account HANDLE   delete this account, whose own handle that is, for good",
    "/me            this account, its server and certificate",
    "/quit          leave; so do Ctrl-C and Ctrl-D",
    "//TEXT         send a line that begins with one /",
];

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Send this.
    Say(String),
    /// Send this: it names another message.
    Tell(MessageBody),
    /// Newest messages on the screen as they stand.
    Show(usize),
    With(String),
    History(u32),
    Who,
    Chats,
    Read,
    Name(String),
    Devices,
    Link {
        code: String,
        approves: bool,
    },
    Rename {
        number: DeviceId,
        name: String,
    },
    Revoke(DeviceId),
    DeleteAccount(String),
    Whois(String),
    Profile(ProfileChange),
    /// Who is in the chosen group.
    Members,
    Group(GroupCommand),
    Roster(RosterCommand),
    Me,
    Help,
    Quit,
}

/// What is to be done with a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GroupCommand {
    New {
        name: String,
        handles: Vec<String>,
    },
    Add(Vec<String>),
    Remove(Vec<String>),
    Role {
        handle: String,
        role: Role,
    },
    Name(String),
    Announcements(bool),
    Leave,
    /// A link, for so many hours or for ever.
    Invite(Option<u32>),
    Uninvite,
    Join(InviteLink),
    /// After so many seconds what is written disappears; 0: never.
    Timer(u32),
}

/// What is to be done with contacts, blocked users, and what others may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RosterCommand {
    Block {
        handle: String,
        blocked: bool,
    },
    /// Who is known, and who is blocked.
    Show,
    Contacts {
        handles: Vec<String>,
        known: bool,
    },
    /// Without a change: how it is.
    Privacy(PrivacyChange),
}

/// Understands a line; nothing where it is empty.
///
/// # Errors
/// In words for the user.
pub(super) fn parse(line: &str) -> Result<Option<Command>, String> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.trim().is_empty() {
        return Ok(None);
    }
    match line.strip_prefix('/') {
        None => say(line).map(Some),
        Some(rest) if rest.starts_with('/') => say(rest).map(Some),
        Some(rest) => command(rest).map(Some),
    }
}

fn say(text: &str) -> Result<Command, String> {
    if text.len() > BODY_BYTES_MAX {
        return Err(too_long());
    }
    Ok(Command::Say(text.to_owned()))
}

/// The complaint about a line that is no message any more.
pub(super) fn too_long() -> String {
    format!("not sent: the line has more than {BODY_BYTES_MAX} bytes (BODY_TOO_LARGE)")
}

fn command(text: &str) -> Result<Command, String> {
    // What follows the slash at once: "/ with bob" is a slip like any other.
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let mut words = rest.split_whitespace();
    let (argument, more) = (words.next(), words.next().is_some());
    let none = |command: Command| match argument {
        None => Ok(command),
        Some(_) => Err(format!("/{name} takes nothing behind it")),
    };
    let handle = |make: fn(String) -> Command| match argument {
        Some(handle) if !more => Ok(make(handle.trim_start_matches('@').to_owned())),
        Some(_) | None => Err(format!("/{name} needs one handle, as in: /{name} bob")),
    };
    match name {
        "with" => handle(Command::With),
        "name" => handle(Command::Name),
        "whois" => handle(Command::Whois),
        "delete-account" => handle(Command::DeleteAccount),
        "profile" => profile(rest).map(Command::Profile),
        "group" if argument.is_none() => Ok(Command::Members),
        "group" => group(rest).map(Command::Group),
        "join" => match rest.trim().parse() {
            Ok(link) => Ok(Command::Group(GroupCommand::Join(link))),
            Err(_) => Err("/join needs a link, as in: /join columba:group/...".to_owned()),
        },
        "timer" => match argument.filter(|_| !more).and_then(timer) {
            Some(timer_s) => Ok(Command::Group(GroupCommand::Timer(timer_s))),
            None => Err("/timer takes a span of at most a year, as in: /timer 7d, 1h, 30m, 10s; or off".to_owned()),
        },
        "history" => match argument.map_or(Ok(CHAT_HISTORY_SHOWN), str::parse) {
            Ok(count) if (1..=HISTORY_PAGE_MAX).contains(&count) && !more => Ok(Command::History(count)),
            Ok(_) | Err(_) => Err(format!("/history takes a number from 1 to {HISTORY_PAGE_MAX}, or none")),
        },
        "show" => match argument.map_or(Ok(CHAT_SHOWN), str::parse) {
            Ok(count) if (1..=CHAT_SHOWN_MAX).contains(&count) && !more => Ok(Command::Show(count)),
            Ok(_) | Err(_) => Err(format!("/show takes a number from 1 to {CHAT_SHOWN_MAX}, or none")),
        },
        "reply" | "react" | "edit" | "delete" => about(name, rest.trim()).map(Command::Tell),
        "who" => none(Command::Who),
        "chats" => none(Command::Chats),
        "read" => none(Command::Read),
        "block" => handle(|handle| Command::Roster(RosterCommand::Block { handle, blocked: true })),
        "unblock" => handle(|handle| Command::Roster(RosterCommand::Block { handle, blocked: false })),
        "contacts" => contacts(rest).map(Command::Roster),
        "privacy" => privacy(rest).map(|change| Command::Roster(RosterCommand::Privacy(change))),
        "devices" => none(Command::Devices),
        "link" => link(rest),
        "rename" => match rest.trim().split_once(char::is_whitespace) {
            Some((number, name)) if name.trim().len() <= DEVICE_NAME_BYTES_MAX => {
                let name = name.trim().to_owned();
                device(number).map(|number| Command::Rename { number, name })
            }
            Some(_) | None => Err(format!(
                "/rename needs a device's number and a name of at most {DEVICE_NAME_BYTES_MAX} bytes, as in: /rename 2 \
                 laptop"
            )),
        },
        "revoke" => match argument {
            Some(number) if !more => device(number).map(Command::Revoke),
            Some(_) | None => Err("/revoke needs a device's number, as in: /revoke 2".to_owned()),
        },
        "me" => none(Command::Me),
        "help" => none(Command::Help),
        "quit" => none(Command::Quit),
        _ => Err("not sent: no such command. /help lists them; // sends a line that begins with /".to_owned()),
    }
}

/// What names a message by its number.
fn about(name: &str, rest: &str) -> Result<MessageBody, String> {
    let (number, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let target = number.parse().map(MessageSeq::new).ok().filter(|target| *target > MessageSeq::ZERO);
    let target = target.ok_or_else(|| format!("/{name} needs the number of a message; /show tells them"))?;
    let text = text.trim().to_owned();
    let body = match name {
        "reply" if !text.is_empty() => MessageBody::text(text).in_reply_to(target),
        "edit" if !text.is_empty() => MessageKind::Edit { target, text }.into(),
        "react" if text.len() <= EMOJI_BYTES_MAX => MessageKind::Reaction { target, emoji: text }.into(),
        "react" => return Err(format!("not sent: a reaction has at most {EMOJI_BYTES_MAX} bytes")),
        "delete" if text.is_empty() => MessageKind::Delete { target }.into(),
        "delete" => return Err("/delete takes one number, as in: /delete 12".to_owned()),
        _ => return Err(format!("/{name} needs a text behind the number, as in: /{name} 12 hello")),
    };
    // A body that is too long is none.
    body.to_bytes().map_err(|_| too_long())?;
    Ok(body)
}

fn device(text: &str) -> Result<DeviceId, String> {
    let number = text.parse().ok().and_then(|number| DeviceId::new(number).ok());
    number.ok_or_else(|| "a device has a number from 1 on; /devices shows them".to_owned())
}

/// A code may be typed in groups.
fn link(rest: &str) -> Result<Command, String> {
    let rest = rest.trim();
    let (code, approves) = match rest.rsplit_once(char::is_whitespace) {
        Some((code, "yes")) => (code.trim_end(), true),
        Some(_) | None => (rest, false),
    };
    if code.is_empty() {
        return Err("/link needs the code that the new device shows, as in: /link 7KQ2-9XWD".to_owned());
    }
    Ok(Command::Link { code: code.to_owned(), approves })
}

fn handles(text: &str) -> Vec<String> {
    text.split_whitespace().map(|handle| handle.trim_start_matches('@').to_owned()).collect()
}

fn contacts(rest: &str) -> Result<RosterCommand, String> {
    let (action, named) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    match (action, handles(named)) {
        ("", _) => Ok(RosterCommand::Show),
        ("add" | "remove", handles) if !handles.is_empty() => {
            Ok(RosterCommand::Contacts { handles, known: action == "add" })
        }
        _ => Err("/contacts takes add or remove and handles, as in: /contacts add bob carol".to_owned()),
    }
}

fn privacy(rest: &str) -> Result<PrivacyChange, String> {
    let mut change = PrivacyChange::default();
    let words: Vec<_> = rest.split_whitespace().collect();
    for pair in words.chunks(2) {
        let audience = match pair.get(1) {
            Some(&"everyone") => Some(Audience::Everyone),
            Some(&"contacts") => Some(Audience::Contacts),
            Some(&"nobody") => Some(Audience::Nobody),
            Some(_) | None => None,
        };
        match (pair, audience) {
            (["receipts", "on"], _) => change.read_receipts_off = Some(false),
            (["receipts", "off"], _) => change.read_receipts_off = Some(true),
            (["seen", _], Some(_)) => change.last_seen = audience,
            (["online", _], Some(_)) => change.online = audience,
            (["groups", _], Some(_)) => change.groups = audience,
            _ => {
                return Err(
                    "/privacy takes seen, online or groups with everyone, contacts or nobody; and receipts on or \
                            off"
                    .to_owned(),
                );
            }
        }
    }
    Ok(change)
}

fn group(rest: &str) -> Result<GroupCommand, String> {
    let rest = rest.trim();
    let (action, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    let some = |make: fn(Vec<String>) -> GroupCommand| match handles(rest) {
        named if named.is_empty() => Err(format!("/group {action} needs handles, as in: /group {action} bob carol")),
        named => Ok(make(named)),
    };
    let role = |role| match &handles(rest)[..] {
        [handle] => Ok(GroupCommand::Role { handle: handle.clone(), role }),
        _ => Err(format!("/group {action} needs one handle, as in: /group {action} bob")),
    };
    let named = |name: &str| match name.len() {
        0 => Err(format!("/group {action} needs a name, as in: /group {action} \"book club\"")),
        1..=GROUP_NAME_BYTES_MAX => Ok(name.to_owned()),
        _ => Err(format!("a group's name has at most {GROUP_NAME_BYTES_MAX} bytes")),
    };
    match (action, rest) {
        ("new", rest) => {
            let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            let (name, rest) = quoted.unwrap_or_else(|| rest.split_once(char::is_whitespace).unwrap_or((rest, "")));
            Ok(GroupCommand::New { name: named(name)?, handles: handles(rest) })
        }
        ("add", _) => some(GroupCommand::Add),
        ("remove", _) => some(GroupCommand::Remove),
        ("admin", _) => role(Role::Admin),
        ("member", _) => role(Role::Member),
        ("owner", _) => role(Role::Owner),
        ("name", name) => named(name.trim_matches('"')).map(GroupCommand::Name),
        ("announce", "on") => Ok(GroupCommand::Announcements(true)),
        ("announce", "off") => Ok(GroupCommand::Announcements(false)),
        ("leave", "") => Ok(GroupCommand::Leave),
        ("invite", "") => Ok(GroupCommand::Invite(None)),
        ("invite", hours) => match hours.parse() {
            Ok(hours) if (1..=INVITE_HOURS_MAX).contains(&hours) => Ok(GroupCommand::Invite(Some(hours))),
            Ok(_) | Err(_) => Err(format!("/group invite takes hours from 1 to {INVITE_HOURS_MAX}, or none")),
        },
        ("uninvite", "") => Ok(GroupCommand::Uninvite),
        _ => Err(
            "/group takes new, add, remove, admin, member, owner, name, announce, invite, uninvite or leave; see /help"
                .to_owned(),
        ),
    }
}

/// Seconds; 0 for `off`.
fn timer(text: &str) -> Option<u32> {
    if text == "off" {
        return Some(0);
    }
    parse_span(text).filter(|seconds| (1..=TIMER_S_MAX).contains(seconds))
}

fn profile(rest: &str) -> Result<ProfileChange, String> {
    let (field, text) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    let text = text.trim().to_owned();
    if text.len() > PROFILE_FIELD_BYTES_MAX {
        return Err(format!("not stored: it has more than {PROFILE_FIELD_BYTES_MAX} bytes"));
    }
    match field {
        "name" => Ok(ProfileChange { name: Some(text.into()), ..ProfileChange::default() }),
        "about" => Ok(ProfileChange { about: Some(text.into()), ..ProfileChange::default() }),
        _ => Err("/profile needs name or about, as in: /profile name Ada".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_in_a_command_is_not_sent_as_a_message() {
        let two = DeviceId::new(2).unwrap();
        let link = |code: &str, approves| Ok(Some(Command::Link { code: code.to_owned(), approves }));
        let tell = |body: MessageBody| Ok(Some(Command::Tell(body)));
        let twelve = MessageSeq::new(12);
        let say = |text: &str| Ok(Some(Command::Say(text.to_owned())));
        let named = |name: &str| {
            Command::Profile(ProfileChange { name: Some(name.to_owned().into()), ..ProfileChange::default() })
        };
        let roster = |command| Ok(Some(Command::Roster(command)));
        let new = |name: &str, handles: &[&str]| {
            let handles = handles.iter().map(|handle| (*handle).to_owned()).collect();
            Ok(Some(Command::Group(GroupCommand::New { name: name.to_owned(), handles })))
        };
        let table = [
            ("", Ok(None)),
            (" \t\r", Ok(None)),
            ("hello /with", say("hello /with")),
            (" indented", say(" indented")),
            ("dos\r", say("dos")),
            ("//etc/passwd", say("/etc/passwd")),
            ("///", say("//")),
            ("/with bob", Ok(Some(Command::With("bob".to_owned())))),
            ("/with  @bob ", Ok(Some(Command::With("bob".to_owned())))),
            ("/name bob", Ok(Some(Command::Name("bob".to_owned())))),
            ("/whois @bob", Ok(Some(Command::Whois("bob".to_owned())))),
            ("/profile name Ada  L. ", Ok(Some(named("Ada  L.")))),
            ("/profile name", Ok(Some(named("")))),
            ("/group", Ok(Some(Command::Members))),
            ("/group new club @bob carol", new("club", &["bob", "carol"])),
            ("/group new \"book club\" bob", new("book club", &["bob"])),
            ("/group new alone", new("alone", &[])),
            ("/group add bob", Ok(Some(Command::Group(GroupCommand::Add(vec!["bob".to_owned()]))))),
            (
                "/group admin bob",
                Ok(Some(Command::Group(GroupCommand::Role { handle: "bob".to_owned(), role: Role::Admin }))),
            ),
            ("/group name a b", Ok(Some(Command::Group(GroupCommand::Name("a b".to_owned()))))),
            ("/group announce off", Ok(Some(Command::Group(GroupCommand::Announcements(false))))),
            ("/timer off", Ok(Some(Command::Group(GroupCommand::Timer(0))))),
            ("/timer 7d", Ok(Some(Command::Group(GroupCommand::Timer(604_800))))),
            ("/timer 365d", Ok(Some(Command::Group(GroupCommand::Timer(TIMER_S_MAX))))),
            ("/timer 10s", Ok(Some(Command::Group(GroupCommand::Timer(10))))),
            ("/group invite", Ok(Some(Command::Group(GroupCommand::Invite(None))))),
            ("/group invite 48", Ok(Some(Command::Group(GroupCommand::Invite(Some(48)))))),
            ("/group uninvite", Ok(Some(Command::Group(GroupCommand::Uninvite)))),
            (
                "/join columba:group/-_v7-_v7-_v7-_v7-_v7-z8_Pz8_Pz8_Pz8_Pz8_Pz8",
                Ok(Some(Command::Group(GroupCommand::Join(InviteLink {
                    group: columba_wire::ChatId::from_bytes([0xfb; 16]),
                    secret: columba_wire::InviteSecret::from_bytes([0x3f; 16]),
                })))),
            ),
            ("/group leave", Ok(Some(Command::Group(GroupCommand::Leave)))),
            ("/unblock @bob", roster(RosterCommand::Block { handle: "bob".to_owned(), blocked: false })),
            ("/contacts", roster(RosterCommand::Show)),
            ("/contacts remove bob", roster(RosterCommand::Contacts { handles: vec!["bob".to_owned()], known: false })),
            ("/privacy", roster(RosterCommand::Privacy(PrivacyChange::default()))),
            (
                "/privacy seen contacts receipts off",
                roster(RosterCommand::Privacy(PrivacyChange {
                    last_seen: Some(Audience::Contacts),
                    read_receipts_off: Some(true),
                    ..PrivacyChange::default()
                })),
            ),
            ("/history", Ok(Some(Command::History(CHAT_HISTORY_SHOWN)))),
            ("/history 100", Ok(Some(Command::History(100)))),
            ("/show", Ok(Some(Command::Show(CHAT_SHOWN)))),
            ("/show 3", Ok(Some(Command::Show(3)))),
            ("/reply 12  hello  there ", tell(MessageBody::text("hello  there").in_reply_to(twelve))),
            ("/react 12 👍", tell(MessageKind::Reaction { target: twelve, emoji: "👍".to_owned() }.into())),
            ("/react 12", tell(MessageKind::Reaction { target: twelve, emoji: String::new() }.into())),
            ("/edit 12 hello", tell(MessageKind::Edit { target: twelve, text: "hello".to_owned() }.into())),
            ("/delete 12", tell(MessageKind::Delete { target: twelve }.into())),
            ("/who", Ok(Some(Command::Who))),
            ("/chats", Ok(Some(Command::Chats))),
            ("/read", Ok(Some(Command::Read))),
            ("/devices", Ok(Some(Command::Devices))),
            ("/link 7kq2 9xwd", link("7kq2 9xwd", false)),
            ("/link  7KQ2-9XWD  yes ", link("7KQ2-9XWD", true)),
            ("/rename 2 old laptop", Ok(Some(Command::Rename { number: two, name: "old laptop".to_owned() }))),
            ("/revoke 2", Ok(Some(Command::Revoke(two)))),
            ("/me", Ok(Some(Command::Me))),
            ("/help", Ok(Some(Command::Help))),
            ("/quit", Ok(Some(Command::Quit))),
        ];
        for (line, expected) in table {
            assert_eq!(parse(line), expected, "{line:?}");
        }
        let complaints =
            ["/", "/ with bob", "/wiht bob", "/with", "/with bob carol", "/history 0", "/history 101", "/history x"];
        for line in complaints.into_iter().chain([
            "/quit now",
            "/profile",
            "/profile nam Ada",
            "/whois",
            "/me me",
            "/history 1 2",
            "/With bob",
            "/link",
            "/revoke 0",
            "/revoke",
            "/rename 2",
            "/group new",
            "/group add",
            "/group admin bob carol",
            "/group leave now",
            "/group announce",
            "/group bob",
            "/group invite 0",
            "/timer",
            "/timer 7",
            "/timer d",
            "/timer 0s",
            "/timer 366d",
            "/timer 1h 2m",
            "/timer 99999999d",
            "/group invite long",
            "/group uninvite 3",
            "/join",
            "/join columba:group/abc",
            "/block",
            "/contacts bob",
            "/contacts add",
            "/privacy online",
            "/privacy online all",
            "/privacy receipts nobody",
            "/show 0",
            "/show all",
            "/reply",
            "/reply 12",
            "/reply hello",
            "/reply 0 hello",
            "/react",
            "/edit 12",
            "/delete",
            "/delete 12 13",
            "/delete -1",
        ]) {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_longest_message_is_sent_and_a_longer_one_is_said_not_to_be() {
        let longest = "x".repeat(BODY_BYTES_MAX);
        assert_eq!(parse(&format!("{longest}\r")), Ok(Some(Command::Say(longest.clone()))));
        assert_eq!(parse(&format!("{longest}x")), Err(too_long()));
        assert_eq!(parse(&format!("/reply 1 {longest}")), Err(too_long()));
        assert!(parse(&format!("/react 1 {longest}")).is_err());
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in [
            "/with",
            "/history",
            "/show",
            "/reply",
            "/react",
            "/edit",
            "/delete",
            "/who",
            "/chats",
            "/read",
            "/name",
            "/devices",
            "/link",
            "/rename",
            "/revoke",
            "/whois",
            "/profile",
            "/group",
            "/join",
            "/timer",
            "/block",
            "/contacts",
            "/privacy",
            "/me",
            "/quit",
            "//",
        ] {
            assert!(HELP.iter().any(|line| line.starts_with(name)), "{name}");
        }
    }
}
