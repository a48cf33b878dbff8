//! What the command line of `columba chat` says, and where the profile is.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use columba_wire::{Code, ids::handle_is_valid, limits::CREDENTIAL_BYTES_MAX};

use super::text::printable;
use crate::{
    error::Error,
    options::{Options, Profile, Transport, Trust},
    types::Fingerprint,
};

/// What `columba chat` is told.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Whose profile to use: handle of the account, made on the first use.
    #[arg(long = "as", value_name = "NAME", value_parser = parse_handle)]
    pub(super) handle: String,
    /// Whom to write to at first; `/with` chooses another.
    #[arg(long, value_name = "HANDLE", value_parser = parse_handle)]
    pub(super) with: Option<String>,
    /// The node.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7443")]
    pub(super) server: String,
    /// What carries the messages; auto is QUIC, WebSocket where that does not get through, and
    /// polling where nothing else does. Plain has no TLS.
    #[arg(long, value_name = "WAY", value_enum, default_value = "auto")]
    transport: Way,
    /// Certificate of the node, or of the authorities that sign it (PEM) [default: trust the first one seen].
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
    certificate: Option<PathBuf>,
    /// SHA-256 of the node's certificate, in hex.
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
    /// Invite code or JWT, where the node asks for one to register.
    #[arg(long, value_name = "TEXT", env = "COLUMBA_CREDENTIAL", hide_env_values = true, default_value = "",
        hide_default_value = true, value_parser = parse_credential)]
    pub(super) credential: String,
    /// Become another device of an account that there is: shows a code to approve on one of its devices.
    #[arg(long)]
    pub(super) link: bool,
    /// What this device is called in the account's list of devices, when it registers or is linked.
    #[arg(long, value_name = "TEXT", default_value = "columba chat")]
    device: String,
    /// Directory of the profile [default: one for each node and name, below ~/.local/share/columba].
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    Auto,
    Quic,
    Websocket,
    Plain,
    Poll,
}

impl ChatArgs {
    /// The profile's directory. `environment`: the variables of the process.
    ///
    /// # Errors
    /// `InvalidOption` where there is no place for it.
    pub(super) fn directory(&self, environment: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
        if let Some(directory) = &self.profile {
            return Ok(directory.clone());
        }
        // Relative paths in these are to be ignored, says the XDG Base Directory Specification.
        let absolute = |name| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
        let data = data.ok_or_else(|| Error::InvalidOption("no home directory: give --profile DIR".to_owned()))?;
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        let server: String = self.server.chars().map(safe).collect();
        // Without the suffix a server could be called "..".
        Ok(data.join("columba").join(server + "_").join(&self.handle))
    }

    /// Options of the client.
    pub(super) fn options(&self, directory: &Path) -> Options {
        let mut options = Options::new(&self.server);
        options.profile = Profile::Directory(directory.to_owned());
        options.agent = concat!("columba-chat/", env!("CARGO_PKG_VERSION")).to_owned();
        options.device_name.clone_from(&self.device);
        options.transport = match self.transport {
            Way::Auto => Transport::Auto,
            Way::Quic => Transport::Quic,
            Way::Websocket => Transport::WebSocket,
            Way::Plain => Transport::PlainWebSocket,
            Way::Poll => Transport::LongPoll,
        };
        options.trust = match (&self.certificate, self.fingerprint) {
            (Some(certificate), _) => Trust::Certificates(certificate.clone()),
            (None, Some(fingerprint)) => Trust::Fingerprint(fingerprint),
            (None, None) => Trust::FirstUse,
        };
        options
    }

    /// An error that ends the program, with what the user can do about it.
    pub(super) fn explain(&self, error: &Error, directory: &Path) -> anyhow::Error {
        let (handle, directory) = (&self.handle, directory.display());
        let advice = match error {
            Error::StoreInUse { .. } => {
                format!(": another `columba chat` is running as {handle}; it has to leave first")
            }
            Error::AlreadyRegistered { handle } => format!(": use --as {handle}, or another --profile"),
            Error::CertificateChanged { expected, found } if self.fingerprint.is_some() => {
                return anyhow::anyhow!("the server's certificate is {found}, not the given {expected}");
            }
            Error::CertificateChanged { .. } => format!(" (pinned_certificate in {directory}/identity.toml)"),
            Error::Refused { code, .. } | Error::Goaway { code, .. } => match code {
                Code::HandleTaken => format!(": choose another name than {handle}, with --as"),
                Code::RegistrationRefused => {
                    ": the node lets nobody register from here without what it asks for; see --credential".to_owned()
                }
                Code::Unauthenticated => format!(
                    ": the node does not know this device. Where it was set up anew, remove {directory} to register \
                     again; what is in there is lost"
                ),
                Code::Revoked => format!(": remove {directory} to link or register anew; what is in there is lost"),
                Code::Replaced => format!(": the account is used by another copy of {directory}"),
                _ => String::new(),
            },
            _ => String::new(),
        };
        anyhow::anyhow!("{}{advice}", reason(error))
    }
}

/// An error in words that are safe to print, the code's name first.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Refused { code, message } if message.is_empty() || message == code.name() => format!("refused: {code}"),
        Error::Goaway { code, message } if message.is_empty() || message == code.name() => {
            format!("the server ended the session: {code}")
        }
        _ => printable(error.to_string().as_bytes()),
    }
}

fn parse_handle(text: &str) -> Result<String, Error> {
    if !handle_is_valid(text) {
        return Err(Error::InvalidHandle(text.to_owned()));
    }
    Ok(text.to_owned())
}

fn parse_credential(text: &str) -> Result<String, Error> {
    if text.len() > CREDENTIAL_BYTES_MAX {
        return Err(Error::InvalidOption(format!("a credential has at most {CREDENTIAL_BYTES_MAX} bytes")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        chat: ChatArgs,
    }

    fn parse(args: &[&str]) -> Result<ChatArgs, clap::Error> {
        Cli::try_parse_from(["chat"].iter().chain(args)).map(|cli| cli.chat)
    }

    fn home(name: &str) -> Option<OsString> {
        (name == "HOME").then(|| "/h".into())
    }

    #[test]
    fn each_account_has_a_profile_of_its_own() {
        Cli::command().debug_assert();
        let directory = |args: &[&str]| parse(args).unwrap().directory(home).unwrap();
        let base = Path::new("/h/.local/share/columba");
        assert_eq!(directory(&["--as", "ada"]), base.join("127.0.0.1_7443_/ada"));
        assert_eq!(directory(&["--as", "a.d-a", "--server", "[::1]:1"]), base.join("___1__1_/a.d-a"));
        assert_eq!(directory(&["--as", "ada", "--server", "../../x:1"]), base.join(".._.._x_1_/ada"));
        assert_eq!(directory(&["--as", "ada", "--server", ".."]), base.join(".._/ada"));
        assert_eq!(directory(&["--as", "ada", "--profile", "p"]), Path::new("p"));
        let args = parse(&["--as", "ada"]).unwrap();
        let data = |name: &str| (name == "XDG_DATA_HOME").then(|| "/data".into());
        assert_eq!(args.directory(data).unwrap(), Path::new("/data/columba/127.0.0.1_7443_/ada"));
        let relative = |name: &str| Some(if name == "HOME" { "/h" } else { "data" }.into());
        assert!(args.directory(relative).unwrap().starts_with(base));
        assert!(matches!(args.directory(|_| None), Err(Error::InvalidOption(_))));
    }

    #[test]
    fn a_name_that_leaves_the_directory_is_refused() {
        for handle in ["..", "../ada", "Ada", "a", "a/b", ""] {
            assert!(parse(&["--as", handle]).is_err(), "{handle}");
        }
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn the_certificate_that_was_given_is_the_one_that_counts() {
        let trust = |args: &[&str]| parse(args).unwrap().options(Path::new("p")).trust;
        let hex = "ab".repeat(32);
        assert_eq!(trust(&["--as", "ada"]), Trust::FirstUse);
        let given = trust(&["--as", "ada", "--fingerprint", &hex.to_uppercase()]);
        assert_eq!(given, Trust::Fingerprint(hex.parse().unwrap()));
        assert_eq!(trust(&["--as", "ada", "--certificate", "c.pem"]), Trust::Certificates("c.pem".into()));
        assert!(parse(&["--as", "ada", "--certificate", "c.pem", "--fingerprint", &hex]).is_err());
        assert!(parse(&["--as", "ada", "--fingerprint", "abc"]).is_err());
        assert!(parse(&["--as", "ada", "--transport", "telnet"]).is_err());
        for (way, transport) in [
            ("auto", Transport::Auto),
            ("quic", Transport::Quic),
            ("websocket", Transport::WebSocket),
            ("plain", Transport::PlainWebSocket),
            ("poll", Transport::LongPoll),
        ] {
            assert_eq!(
                parse(&["--as", "ada", "--transport", way]).unwrap().options(Path::new("p")).transport,
                transport
            );
        }
    }

    #[test]
    fn an_error_that_ends_the_program_says_what_to_do() {
        let args = parse(&["--as", "ada"]).unwrap();
        let explain = |error: Error| args.explain(&error, Path::new("dir")).to_string();
        let used = explain(Error::StoreInUse { path: "dir".to_owned() });
        assert_eq!(
            used,
            "profile dir is in use by another process: another `columba chat` is running as ada; it has to leave first"
        );
        let refused = |code: Code| Error::Refused { code, message: code.name().to_owned() };
        assert_eq!(
            explain(refused(Code::HandleTaken)),
            "refused: HANDLE_TAKEN: choose another name than ada, with --as"
        );
        assert!(explain(refused(Code::RegistrationRefused)).contains("REGISTRATION_REFUSED"));
        assert!(explain(refused(Code::Unauthenticated)).contains("remove dir"));
        let hostile = Error::Refused { code: Code::Internal, message: "\x1b[2J".to_owned() };
        assert_eq!(explain(hostile), "refused: INTERNAL: ␛[2J");
    }
}
