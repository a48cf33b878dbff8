//! A typed line, understood.

use columba_wire::{
    DeviceId,
    limits::{BODY_BYTES_MAX, DEVICE_NAME_BYTES_MAX, HISTORY_PAGE_MAX, PROFILE_FIELD_BYTES_MAX},
};

use crate::{limits::CHAT_HISTORY_SHOWN, types::ProfileChange};

/// What `/help` says.
pub(super) const HELP: &[&str] = &[
    "/with HANDLE   choose whom to write to; every line without a / is then sent",
    "/history [N]   older messages of this chat, 20 or N (1 to 100)",
    "/who           how far the other one is: online, delivered, read",
    "/chats         the people you know, and what is unread",
    "/read          mark all that was shown as read, that of others too",
    "/name HANDLE   learn whose id is behind a handle",
    "/devices       the devices of this account",
    "/link CODE     who waits to be linked behind a code; /link CODE yes links it",
    "/rename N NAME give device N another name",
    "/revoke N      end device N: it reads and writes nothing more",
    "/whois HANDLE  what somebody tells about itself",
    "/profile name|about [TEXT]  tell something about yourself, or take it back",
    "/me            this account, its server and certificate",
    "/quit          leave; so do Ctrl-C and Ctrl-D",
    "//TEXT         send a line that begins with one /",
];

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Send this.
    Say(String),
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
    Whois(String),
    Profile(ProfileChange),
    Me,
    Help,
    Quit,
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
        "profile" => profile(rest).map(Command::Profile),
        "history" => match argument.map_or(Ok(CHAT_HISTORY_SHOWN), str::parse) {
            Ok(count) if (1..=HISTORY_PAGE_MAX).contains(&count) && !more => Ok(Command::History(count)),
            Ok(_) | Err(_) => Err(format!("/history takes a number from 1 to {HISTORY_PAGE_MAX}, or none")),
        },
        "who" => none(Command::Who),
        "chats" => none(Command::Chats),
        "read" => none(Command::Read),
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
        let say = |text: &str| Ok(Some(Command::Say(text.to_owned())));
        let named = |name: &str| {
            Command::Profile(ProfileChange { name: Some(name.to_owned().into()), ..ProfileChange::default() })
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
            ("/history", Ok(Some(Command::History(CHAT_HISTORY_SHOWN)))),
            ("/history 100", Ok(Some(Command::History(100)))),
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
        ]) {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_longest_message_is_sent_and_a_longer_one_is_said_not_to_be() {
        let longest = "x".repeat(BODY_BYTES_MAX);
        assert_eq!(parse(&format!("{longest}\r")), Ok(Some(Command::Say(longest.clone()))));
        assert_eq!(parse(&format!("{longest}x")), Err(too_long()));
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in [
            "/with", "/history", "/who", "/chats", "/read", "/name", "/devices", "/link", "/rename", "/revoke",
            "/whois", "/profile", "/me", "/quit", "//",
        ] {
            assert!(HELP.iter().any(|line| line.starts_with(name)), "{name}");
        }
    }
}
