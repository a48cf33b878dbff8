//! The configuration: defaults, a TOML file, the environment, flags; what comes later wins.
//!
//! [`KEYS`] is the one table of all keys, with kind, default and documentation; the environment variable of `tls.names`
//! is `COLUMBA_TLS_NAMES`. Values are merged as text and TOML first, each with where it came from, and become a
//! [`Config`] in one place, where they are checked.
//!
//! Invariants
//! - A key that does not exist is an error that names the closest one; a value of the wrong kind is an error.
//! - Secrets (invites) are never shown.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use columba_engine::{
    memory::MEMORY_BYTES_MIN,
    partition::retention::{RETENTION_DAYS_MAX, Retention, UNTIL_DELIVERED_DAYS},
};
use toml::Value;

use crate::{
    error::{Error, Result},
    front::{admission::ConnectionLimits, tls::CertificateSource},
    limits::{
        CONNECTIONS_LOOPBACK_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, CORES_MAX, PARTITIONS_MAX,
        UNAUTHENTICATED_NODE_MAX,
    },
    registration::{JwtAlgorithm, OpenTo, RegistrationPolicy},
};

/// Partitions of a node that says nothing else.
pub const PARTITIONS_DEFAULT: u32 = 16;

/// The most MiB that a key may name: a tebibyte.
const MIB_MAX: u64 = 1024 * 1024;

/// What kind of value a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text; may be empty where empty means "not set".
    Text,
    /// A whole number from 0.
    Number,
    /// `true` or `false`.
    Switch,
    /// A list of texts; in the environment and on the command line separated by commas.
    List,
    /// As a list, and never shown.
    SecretList,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// A key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file, with dots between tables.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its default, as in the file.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, help }
}

/// Every key there is.
pub const KEYS: &[Key] = &[
    key("data_dir", Kind::Text, "\"./data\"", "Directory of everything the node keeps. One node at a time has it."),
    key(
        "listen",
        Kind::Text,
        "\"127.0.0.1:7443\"",
        "Address and port: WebSocket and HTTP over TLS by TCP, QUIC by UDP. Port 0 takes a free one.",
    ),
    key("listen_plain", Kind::Text, "\"\"", "Address and port for WebSocket and HTTP without TLS; empty for none."),
    key(
        "cores",
        Kind::Number,
        "0",
        "Threads, each with its own partitions; 0: one for each CPU. Fixed at the first start.",
    ),
    key("pin_cores", Kind::Switch, "true", "Whether each thread stays on one CPU, where there are enough."),
    key("partitions", Kind::Number, "0", "Partitions of the node; 0: 16. Fixed at the first start."),
    key(
        "disk",
        Kind::Choice(&["auto", "uring", "thread"]),
        "\"auto\"",
        "Way to the disk: io_uring, blocking threads, or the first that works.",
    ),
    key(
        "memory_mib",
        Kind::Number,
        "0",
        "Memory of each core for memtables and caches, in MiB; 0: 256. Connections come on top.",
    ),
    key(
        "window_hours",
        Kind::Number,
        "24",
        "Hours of messages that share table files; what is past its retention is dropped by the file.",
    ),
    key(
        "scrub_mib_per_second",
        Kind::Number,
        "4",
        "How fast each core verifies its files in the background, in MiB a second; 0: not at all.",
    ),
    key(
        "retention",
        Kind::Text,
        "\"history\"",
        "How long messages are kept: `history` (for ever), `history:365d`, `until-delivered` (to all devices, 30 days \
         at most), `until-delivered:7d`.",
    ),
    key(
        "registration.mode",
        Kind::Choice(&["open", "closed", "invite", "jwt"]),
        "\"open\"",
        "Who may register: anybody, nobody, who knows an invite, who brings a signed token.",
    ),
    key(
        "registration.open_to",
        Kind::Choice(&["loopback", "any"]),
        "\"loopback\"",
        "From where anybody may register, in mode `open`: this machine, or anywhere.",
    ),
    key(
        "registration.invites",
        Kind::SecretList,
        "[]",
        "Codes for mode `invite`, 8 bytes or longer; each is good until it is taken away.",
    ),
    key(
        "registration.jwt_algorithm",
        Kind::Choice(&["HS256", "EdDSA", "ES256"]),
        "\"EdDSA\"",
        "Signature of tokens in mode `jwt`. Their claims: `sub` is the handle, `exp` lies in the future.",
    ),
    key(
        "registration.jwt_key",
        Kind::Text,
        "\"\"",
        "File with the key for mode `jwt`: the public key in PEM, or the secret's bytes for HS256.",
    ),
    key(
        "tls.certificate",
        Kind::Text,
        "\"\"",
        "PEM file of the certificate chain; empty: self-signed, in data_dir/tls.",
    ),
    key("tls.key", Kind::Text, "\"\"", "PEM file of its private key."),
    key("tls.names", Kind::List, "[]", "More names and addresses for the self-signed certificate, when it is made."),
    key(
        "allowed_origins",
        Kind::List,
        "[]",
        "Origins whose pages may open a WebSocket, as `https://chat.example`; `*` for all. Programs send no origin.",
    ),
    key(
        "metrics_to",
        Kind::Choice(&["loopback", "any"]),
        "\"loopback\"",
        "Who may read /metrics: this machine, or anybody.",
    ),
    key("log.format", Kind::Choice(&["human", "json"]), "\"human\"", "Form of the log on standard error."),
    key("log.filter", Kind::Text, "\"info\"", "What is logged, as `info` or `columba_server=debug,warn`."),
    key("connections.total_max", Kind::Number, "100000", "Connections of the node. Beyond: closed at once."),
    key(
        "connections.per_address_max",
        Kind::Number,
        "64",
        "Connections of one IPv4 address or IPv6 /64, and its long-poll sessions. Beyond: closed at once.",
    ),
    key("connections.loopback_max", Kind::Number, "100000", "Connections from this machine, a proxy's for example."),
    key(
        "connections.unauthenticated_max",
        Kind::Number,
        "4096",
        "Connections that are not logged in. Beyond: the oldest of them is closed.",
    ),
    key(
        "limits.loopback",
        Kind::Switch,
        "false",
        "Whether rates of logins, messages, signals and of taking keys are limited for this machine as well.",
    ),
];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// Which disk back end to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskChoice {
    /// The first that works.
    Auto,
    /// `io_uring`, or no start.
    Uring,
    /// Blocking threads.
    Thread,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of everything the node keeps.
    pub data_dir: PathBuf,
    /// TLS by TCP, QUIC by UDP.
    pub listen: SocketAddr,
    /// Plain TCP.
    pub listen_plain: Option<SocketAddr>,
    /// Threads, where said.
    pub cores: Option<u16>,
    /// Whether threads are pinned.
    pub pin_cores: bool,
    /// Partitions, where said.
    pub partitions: Option<u32>,
    /// Way to the disk.
    pub disk: DiskChoice,
    /// Memory of a core for memtables and caches, bytes; `None`: the default.
    pub memory_bytes: Option<usize>,
    /// Milliseconds of messages that share table files.
    pub window_ms: u64,
    /// How fast a core verifies its files in the background; 0: not at all.
    pub scrub_bytes_per_second: u64,
    /// How long messages are kept.
    pub retention: Retention,
    /// Who may register.
    pub registration: RegistrationPolicy,
    /// The same in words, for the greeting.
    pub registration_says: &'static str,
    /// Where the certificate comes from.
    pub certificate: CertificateSource,
    /// Origins whose pages may connect.
    pub allowed_origins: Vec<String>,
    /// Whether anybody may read the metrics.
    pub metrics_to_any: bool,
    /// Form of the log.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: String,
    /// Bounds of connections.
    pub connections: ConnectionLimits,
    /// Connections that are not logged in.
    pub unauthenticated_max: usize,
    /// Whether rates are limited for clients on this machine as well.
    pub limits_loopback: bool,
}

/// Values of all keys with their origins.
#[derive(Clone, Debug)]
pub struct Settings(BTreeMap<&'static str, (Value, Origin)>);

impl Default for Settings {
    fn default() -> Self {
        let values = KEYS.iter().map(|key| {
            let value = parse_default(key.default).expect("defaults are TOML");
            (key.name, (value, Origin::Default))
        });
        Self(values.collect())
    }
}

impl Settings {
    /// Takes over a configuration file.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, or has an unknown key or a value of the wrong kind.
    pub fn merge_file(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            operation: "read",
            path: path.to_owned(),
            source,
        })?;
        self.merge_toml(&text, path)
    }

    fn merge_toml(&mut self, text: &str, path: &Path) -> Result<()> {
        let table = text
            .parse::<toml::Table>()
            .map_err(|error| Error::ConfigFile { path: path.to_owned(), reason: error.to_string() })?;
        self.merge_table("", table, path)
    }

    fn merge_table(&mut self, prefix: &str, table: toml::Table, path: &Path) -> Result<()> {
        for (name, value) in table {
            let name = format!("{prefix}{name}");
            match value {
                Value::Table(inner) if KEYS.iter().any(|key| key.name.starts_with(&format!("{name}."))) => {
                    self.merge_table(&format!("{name}."), inner, path)?;
                }
                value => self.set(&name, value, Origin::File(path.to_owned()))?,
            }
        }
        Ok(())
    }

    /// Takes over the environment: variables that begin with `COLUMBA_`.
    ///
    /// # Errors
    /// One of them is no key, or of the wrong kind.
    pub fn merge_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<()> {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("COLUMBA_") else {
                continue;
            };
            // Said beside the configuration, not in it: where the file is.
            if rest == "CONFIG" {
                continue;
            }
            let found = KEYS.iter().find(|key| key.name.replace('.', "_").to_uppercase() == rest);
            let Some(key) = found else {
                return Err(unknown(&rest.to_lowercase(), &Origin::Environment(name)));
            };
            self.set_text(key, &text, Origin::Environment(name))?;
        }
        Ok(())
    }

    /// Takes over a flag for the key of the same name.
    ///
    /// # Errors
    /// The value is of the wrong kind.
    pub fn merge_flag(&mut self, name: &str, text: &str) -> Result<()> {
        let key = KEYS.iter().find(|key| key.name == name).expect("flags are for keys that exist");
        self.set_text(key, text, Origin::Flag(name.replace(['.', '_'], "-")))
    }

    /// Takes over `key=value` of the command line.
    ///
    /// # Errors
    /// It is not of that form, no key, or of the wrong kind.
    pub fn merge_pair(&mut self, pair: &str) -> Result<()> {
        let origin = Origin::Flag("set".to_owned());
        let Some((name, text)) = pair.split_once('=') else {
            let reason = "must be KEY=VALUE".to_owned();
            return Err(Error::Config { key: pair.to_owned(), origin: origin.to_string(), reason });
        };
        match KEYS.iter().find(|key| key.name == name) {
            Some(key) => self.set_text(key, text, origin),
            None => Err(unknown(name, &origin)),
        }
    }

    fn set_text(&mut self, key: &Key, text: &str, origin: Origin) -> Result<()> {
        let value = match key.kind {
            Kind::Text | Kind::Choice(_) => Some(Value::String(text.to_owned())),
            Kind::Number => text.trim().parse().ok().map(Value::Integer),
            Kind::Switch => text.trim().parse().ok().map(Value::Boolean),
            Kind::List | Kind::SecretList => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Some(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
            }
        };
        let Some(value) = value else {
            return Err(wrong_kind(key, &origin));
        };
        self.set(key.name, value, origin)
    }

    fn set(&mut self, name: &str, value: Value, origin: Origin) -> Result<()> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(unknown(name, &origin));
        };
        let is_list = |value: &Value| value.as_array().is_some_and(|values| values.iter().all(Value::is_str));
        let fits = match key.kind {
            Kind::Text => value.is_str(),
            Kind::Number => value.as_integer().is_some_and(|number| number >= 0),
            Kind::Switch => value.is_bool(),
            Kind::List | Kind::SecretList => is_list(&value),
            Kind::Choice(choices) => value.as_str().is_some_and(|text| choices.contains(&text)),
        };
        if !fits {
            return Err(wrong_kind(key, &origin));
        }
        self.0.insert(key.name, (value, origin));
        Ok(())
    }

    /// All keys with their values and where they came from, as a TOML file.
    pub fn show(&self) -> String {
        let mut out = String::new();
        render(&mut out, |key| {
            let (value, origin) = &self.0[key.name];
            let secrets = value.as_array().map_or(0, Vec::len);
            let shown = match key.kind {
                Kind::SecretList if secrets > 0 => format!("[] # {secrets} not shown"),
                _ => value.to_string(),
            };
            (String::new(), format!("{shown} # {origin}"))
        });
        out
    }

    /// The checked configuration.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub fn build(&self) -> Result<Config> {
        let optional_address = |name| match self.text(name) {
            "" => Ok(None),
            _ => self.address(name).map(Some),
        };
        let data_dir = PathBuf::from(self.text("data_dir"));
        if data_dir.as_os_str().is_empty() {
            return Err(self.wrong("data_dir", "is empty".to_owned()));
        }
        let certificate = match (self.text("tls.certificate"), self.text("tls.key")) {
            ("", "") => CertificateSource::SelfSigned { dir: data_dir.join("tls"), names: self.list("tls.names") },
            (certificate, key) if !certificate.is_empty() && !key.is_empty() => {
                CertificateSource::Files { certificate: certificate.into(), key: key.into() }
            }
            _ => {
                return Err(
                    self.wrong("tls.certificate", "needs tls.key beside it, and the other way round".to_owned())
                );
            }
        };
        let (registration, registration_says) = self.registration()?;
        let choice = |name| self.text(name);
        Ok(Config {
            listen: self.address("listen")?,
            listen_plain: optional_address("listen_plain")?,
            cores: self.bounded("cores", u64::from(CORES_MAX))?.and_then(|cores| u16::try_from(cores).ok()),
            pin_cores: self.0["pin_cores"].0.as_bool() == Some(true),
            partitions: self
                .bounded("partitions", u64::from(PARTITIONS_MAX))?
                .and_then(|partitions| u32::try_from(partitions).ok()),
            disk: match choice("disk") {
                "uring" => DiskChoice::Uring,
                "thread" => DiskChoice::Thread,
                _ => DiskChoice::Auto,
            },
            memory_bytes: self.memory_bytes()?,
            window_ms: self.at_least_one("window_hours")? as u64 * 60 * 60 * 1000,
            scrub_bytes_per_second: self.number("scrub_mib_per_second").min(MIB_MAX) * 1024 * 1024,
            retention: self.retention()?,
            registration,
            registration_says,
            certificate,
            allowed_origins: self.list("allowed_origins"),
            metrics_to_any: choice("metrics_to") == "any",
            log_format: if choice("log.format") == "json" { LogFormat::Json } else { LogFormat::Human },
            log_filter: self.text("log.filter").to_owned(),
            connections: ConnectionLimits {
                total_max: self.at_least_one("connections.total_max")?,
                per_address_max: self.at_least_one("connections.per_address_max")?,
                loopback_max: self.at_least_one("connections.loopback_max")?,
            },
            unauthenticated_max: self.at_least_one("connections.unauthenticated_max")?,
            limits_loopback: self.0["limits.loopback"].0.as_bool() == Some(true),
            data_dir,
        })
    }

    fn memory_bytes(&self) -> Result<Option<usize>> {
        let Some(mib) = self.bounded("memory_mib", MIB_MAX)? else {
            return Ok(None);
        };
        let bytes = usize::try_from(mib * 1024 * 1024).unwrap_or(usize::MAX);
        if bytes < MEMORY_BYTES_MIN {
            return Err(self.wrong("memory_mib", format!("is at least {}", MEMORY_BYTES_MIN / 1024 / 1024)));
        }
        Ok(Some(bytes))
    }

    fn retention(&self) -> Result<Retention> {
        let text = self.text("retention");
        let wrong = || {
            let reason = "is `history` or `until-delivered`, and may name its days, as `history:365d`";
            self.wrong("retention", reason.to_owned())
        };
        let (kind, days) = match text.split_once(':') {
            None => (text, None),
            Some((kind, days)) => {
                let days = days.strip_suffix('d').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                (kind, Some(days.and_then(|days| days.parse().ok()).ok_or_else(wrong)?))
            }
        };
        let retention = match kind {
            "history" => Retention::History { days },
            "until-delivered" => Retention::UntilDelivered { days: days.unwrap_or(UNTIL_DELIVERED_DAYS) },
            _ => return Err(wrong()),
        };
        if !retention.is_valid() {
            return Err(self.wrong("retention", format!("has from 1 to {RETENTION_DAYS_MAX} days")));
        }
        Ok(retention)
    }

    fn registration(&self) -> Result<(RegistrationPolicy, &'static str)> {
        Ok(match self.text("registration.mode") {
            "closed" => (RegistrationPolicy::closed(), "closed"),
            "invite" => {
                let invites = self.list("registration.invites");
                if invites.is_empty() || invites.iter().any(|code| code.len() < 8) {
                    let reason = "mode `invite` needs at least one code, each of 8 bytes or more";
                    return Err(self.wrong("registration.invites", reason.to_owned()));
                }
                (RegistrationPolicy::invite(invites.iter().map(String::as_str)), "by invite")
            }
            "jwt" => {
                let algorithm = match self.text("registration.jwt_algorithm") {
                    "HS256" => JwtAlgorithm::Hs256,
                    "ES256" => JwtAlgorithm::Es256,
                    _ => JwtAlgorithm::EdDsa,
                };
                let key = read_key(Path::new(self.text("registration.jwt_key")))
                    .map_err(|error| self.wrong("registration.jwt_key", error.to_string()))?;
                let policy = RegistrationPolicy::jwt(algorithm, &key)
                    .map_err(|error| self.wrong("registration.jwt_key", error.to_string()))?;
                (policy, "by signed token")
            }
            _ if self.text("registration.open_to") == "any" => {
                (RegistrationPolicy::open(OpenTo::Any), "open to everybody")
            }
            _ => (RegistrationPolicy::open_to_loopback(), "open to this machine"),
        })
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].0.as_str().unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<String> {
        let values = self.0[name].0.as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn number(&self, name: &str) -> u64 {
        self.0[name].0.as_integer().and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
    }

    /// A number of which 0 means "not said".
    fn bounded(&self, name: &str, max: u64) -> Result<Option<u64>> {
        match self.number(name) {
            0 => Ok(None),
            number if number <= max => Ok(Some(number)),
            number => Err(self.wrong(name, format!("{number} is more than {max}"))),
        }
    }

    fn at_least_one(&self, name: &str) -> Result<usize> {
        match usize::try_from(self.number(name)) {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(self.wrong(name, "is at least 1".to_owned())),
        }
    }

    fn address(&self, name: &str) -> Result<SocketAddr> {
        let text = self.text(name);
        text.parse().map_err(|_| self.wrong(name, format!("{text:?} is no address and port, as 127.0.0.1:7443")))
    }

    fn wrong(&self, name: &str, reason: String) -> Error {
        Error::Config { key: name.to_owned(), origin: self.0[name].1.to_string(), reason }
    }
}

/// All keys with their documentation and defaults, as a TOML file to begin with.
pub fn example() -> String {
    let mut out = "# Columba's configuration: every key, with its default.\n".to_owned();
    out.push_str("# The environment (COLUMBA_DATA_DIR, COLUMBA_TLS_NAMES ...) and flags win over this file.\n");
    render(&mut out, |key| {
        let choices = match key.kind {
            Kind::Choice(choices) => format!("\n# One of: {}", choices.join(", ")),
            Kind::Text | Kind::Number | Kind::Switch | Kind::List | Kind::SecretList => String::new(),
        };
        (format!("\n# {}{choices}\n", key.help), key.default.to_owned())
    });
    out
}

/// Keys without a table first, then each table once.
fn render(out: &mut String, line: impl Fn(&Key) -> (String, String)) {
    let mut keys: Vec<_> = KEYS.iter().map(|key| (key.name.rsplit_once('.').unwrap_or(("", key.name)), key)).collect();
    keys.sort_by_key(|((table, _), _)| *table);
    let mut open = "";
    for ((table, name), key) in keys {
        if table != open {
            write!(out, "\n[{table}]\n").expect("a string takes everything");
            open = table;
        }
        let (before, value) = line(key);
        writeln!(out, "{before}{name} = {value}").expect("a string takes everything");
    }
}

#[expect(clippy::disallowed_methods, reason = "a key of the operator's, read once at start")]
fn read_key(path: &Path) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

fn parse_default(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<toml::Table>().ok()?.remove("value")
}

fn wrong_kind(key: &Key, origin: &Origin) -> Error {
    let reason = match key.kind {
        Kind::Text => "must be a text".to_owned(),
        Kind::Number => "must be a whole number, 0 or more".to_owned(),
        Kind::Switch => "must be true or false".to_owned(),
        Kind::List | Kind::SecretList => "must be a list of texts".to_owned(),
        Kind::Choice(choices) => format!("must be one of: {}", choices.join(", ")),
    };
    Error::Config { key: key.name.to_owned(), origin: origin.to_string(), reason }
}

fn unknown(name: &str, origin: &Origin) -> Error {
    let plain = |text: &str| text.replace('.', "_");
    let closest = KEYS.iter().min_by_key(|key| distance(&plain(key.name), &plain(name)));
    let closest = closest.map_or("", |key| key.name);
    let reason = format!("there is no such key; the closest is {closest}");
    Error::Config { key: name.to_owned(), origin: origin.to_string(), reason }
}

/// Letters to change, add or drop to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const _: () = assert!(
    CONNECTIONS_MAX == 100_000
        && CONNECTIONS_LOOPBACK_MAX == 100_000
        && CONNECTIONS_PER_ADDRESS_MAX == 64
        && UNAUTHENTICATED_NODE_MAX == 4_096
        && PARTITIONS_DEFAULT == 16,
    "the defaults in the table are those of the limits"
);

#[cfg(test)]
mod tests;
