//! PROTOCOL.md is what authors of other clients have: whatever they can meet must stand in it, with its numbers.

use columba_wire::{Code, limits};

pub(crate) const PROTOCOL: &str = include_str!("../../PROTOCOL.md");
const LIMITS_SOURCE: &str = include_str!("../../src/limits.rs");
const SCHEMA: [&str; 11] = [
    include_str!("../../proto/columba/v1/frame.proto"),
    include_str!("../../proto/columba/v1/session.proto"),
    include_str!("../../proto/columba/v1/chat.proto"),
    include_str!("../../proto/columba/v1/sync.proto"),
    include_str!("../../proto/columba/v1/presence.proto"),
    include_str!("../../proto/columba/v1/device.proto"),
    include_str!("../../proto/columba/v1/people.proto"),
    include_str!("../../proto/columba/v1/keys.proto"),
    include_str!("../../proto/columba/v1/group.proto"),
    include_str!("../../proto/columba/v1/signal.proto"),
    include_str!("../../proto/columba/v1/message.proto"),
];

/// The cells of the table rows of a section.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = PROTOCOL.split_once(heading).unwrap_or_else(|| panic!("PROTOCOL.md lacks \"{heading}\""));
    let section = section.split("\n## ").next().expect("a text has a first part");
    section
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|--"))
        .skip(1)
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[test]
fn every_error_code_is_documented_as_it_is() {
    let rows = rows("\n## 12. Errors");
    for (code, row) in Code::ALL.iter().zip(&rows) {
        let [number, name, meaning, retry, closes] = row[..] else { panic!("{code}: a row has other cells: {row:?}") };
        assert_eq!(number, code.number().to_string(), "number of {code}");
        assert_eq!(name, format!("`{code}`"));
        assert!(meaning.len() > 10, "{code} has no meaning");
        assert_eq!(retry, yes(code.is_retryable()), "whether {code} is retryable");
        assert_eq!(closes, yes(code.closes()), "whether {code} closes");
    }
    assert_eq!(rows.len(), Code::ALL.len(), "codes documented, and codes there are");
}

macro_rules! values {
    ($($name:ident),* $(,)?) => {
        [$((stringify!($name), limits::$name.to_string())),*]
    };
}

#[test]
fn every_limit_is_documented_with_its_value() {
    let values = values![
        FRAME_BYTES_MAX,
        BODY_BYTES_MAX,
        FRAME_BYTES_UNAUTHENTICATED_MAX,
        VERSIONS_MAX,
        AGENT_BYTES_MAX,
        HANDLE_BYTES_MIN,
        HANDLE_BYTES_MAX,
        CREDENTIAL_BYTES_MAX,
        SENDS_IN_FLIGHT_MAX,
        DEDUP_WINDOW,
        UNACKED_MAX,
        OUTBOX_BYTES_MAX,
        OUTBOX_STALL_MS_MAX,
        HISTORY_PAGE_MAX,
        HISTORY_PAGE_BYTES_MAX,
        PRESENCE_SUBSCRIPTIONS_MAX,
        PROFILE_FIELD_BYTES_MAX,
        ONE_TIME_KEYS_MAX,
        KEYS_LOW_AT,
        SIGNAL_BYTES_MAX,
        SIGNAL_MEMBERS_MAX,
        HEARTBEAT_MS,
        HEARTBEAT_DEADLINE_MS,
        TLS_HANDSHAKE_MS_MAX,
        LOGIN_MS_MAX,
        LOGIN_ATTEMPTS_MAX,
        FRAME_MS_MAX,
        POLL_HOLD_MS,
        DEVICES_MAX,
        DEVICE_NAME_BYTES_MAX,
        LINK_MS_MAX,
        GROUP_MEMBERS_MAX,
        GROUP_REMOVED_MAX,
        GROUP_NAME_BYTES_MAX,
        GROUP_PICTURE_BYTES_MAX,
        TIMER_S_MAX,
        CONTACTS_MAX,
        BLOCKED_MAX,
        CHATS_PAGE_MAX,
    ];
    let in_source: Vec<_> =
        LIMITS_SOURCE.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect();
    let tested: Vec<_> = values.iter().map(|(name, _)| *name).collect();
    assert_eq!(tested, in_source, "limits.rs has other limits than this test");

    let rows = rows("\n## 13. Limits");
    for ((name, value), row) in values.iter().zip(&rows) {
        assert_eq!(row.len(), 5, "{row:?}");
        assert_eq!(row[0], format!("`{name}`"));
        assert_eq!(row[1], value, "value of {name}");
    }
    assert_eq!(rows.len(), values.len(), "limits documented, and limits there are");
}

#[test]
fn every_message_and_field_is_documented() {
    let (_, reference) = PROTOCOL.split_once("\n## 14. ").unwrap();
    let mut fields = 0;
    for schema in SCHEMA {
        let mut section = "";
        for line in schema.lines() {
            let line = line.split("//").next().unwrap().trim();
            if let Some(declared) = line.strip_prefix("message ").or(line.strip_prefix("enum ")) {
                let name = declared.split_whitespace().next().unwrap();
                let heading = format!("\n**{name}**");
                let Some((_, rest)) = reference.split_once(&heading) else { panic!("{name} is not documented") };
                section = rest.split("\n**").next().unwrap();
            }
            let declared = line.rsplit_once('{').map_or(line, |(_, inside)| inside);
            let Some((left, number)) = declared.split_once(" = ") else { continue };
            let Some(number) = number.split(';').next().filter(|number| number.parse::<u32>().is_ok()) else {
                continue;
            };
            let words: Vec<_> = left.split_whitespace().collect();
            let (name, kind) = words.split_last().unwrap();
            let row = match kind {
                [] => format!("| {number} | `{name}` |"),
                kind => format!("| {number} | `{name}` | {} |", kind.join(" ")),
            };
            assert!(section.contains(&row), "PROTOCOL.md lacks the row {row}");
            fields += 1;
        }
    }
    assert!(fields > 90, "only {fields} fields found in the schema: this test does not read it any more");
}
