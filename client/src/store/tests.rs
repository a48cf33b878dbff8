//! The profile after crashes, damage and rewriting.

use columba_wire::MessageSeq;

use super::*;

const SERVER: &str = "127.0.0.1:7443";

fn open(directory: &Path) -> Store {
    Store::open(directory, SERVER).unwrap()
}

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

fn queued(n: u64) -> Record {
    Record::Queued { client_seq: ClientSeq::new(n), to: user(2), body: Bytes::from(format!("body {n}")) }
}

fn sent(n: u64) -> Record {
    let chat = ChatId::direct(user(1), user(2));
    Record::Sent { client_seq: ClientSeq::new(n), chat, seq: MessageSeq::new(n), time_ms: n }
}

fn account() -> Account {
    Account { user: user(1), device: DeviceId::FIRST, handle: "ada".to_owned() }
}

fn outbox(store: &Store) -> Vec<u64> {
    store.kept().outbox.iter().map(|(client_seq, _)| client_seq.get()).collect()
}

fn append(directory: &Path, text: &[u8]) {
    OpenOptions::new().append(true).open(directory.join("journal.jsonl")).unwrap().write_all(text).unwrap();
}

#[test]
fn a_profile_is_the_same_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let key = store.key().unwrap();
    store.set_account(&account()).unwrap();
    store.set_pinned(Fingerprint::of(b"certificate")).unwrap();
    store.commit(vec![queued(1), queued(2)]).unwrap();
    store.commit(vec![sent(1)]).unwrap();
    drop(store);

    let mut store = open(directory.path());
    assert_eq!(store.key().unwrap().to_bytes(), key.to_bytes());
    assert_eq!(store.kept().account, Some(account()));
    assert_eq!(store.pinned().unwrap(), Some(Fingerprint::of(b"certificate")));
    assert_eq!(outbox(&store), [2]);
    assert_eq!(store.kept().next_client_seq, 3);
    let log = store.log(ChatId::direct(user(1), user(2)), 10, 0);
    assert_eq!(log.len(), 1);
    assert_eq!(&log[0].body[..], b"body 1");
}

#[test]
fn a_torn_last_line_is_cut_off_and_nothing_before_it_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.commit(vec![queued(1)]).unwrap();
    drop(store);
    let whole = serde_json::to_vec(&vec![queued(2)]).unwrap();
    for cut in 1..=whole.len() {
        append(directory.path(), &whole[..cut]);
        let store = open(directory.path());
        assert_eq!(outbox(&store), [1], "cut at {cut}");
    }
    let mut store = open(directory.path());
    store.commit(vec![queued(2)]).unwrap();
    drop(store);
    assert_eq!(outbox(&open(directory.path())), [1, 2]);
}

#[test]
fn a_damaged_line_in_the_middle_is_an_error_and_not_a_loss() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.commit(vec![queued(1)]).unwrap();
    drop(store);
    append(directory.path(), b"[{\"que\n");
    append(directory.path(), &[&serde_json::to_vec(&vec![queued(3)]).unwrap()[..], b"\n"].concat());
    assert!(matches!(Store::open(directory.path(), SERVER), Err(Error::StoreDamaged { line: 2, .. })));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test plants the leftovers of a crash")]
fn leftovers_of_a_crash_between_write_and_rename_are_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.commit(vec![queued(1)]).unwrap();
    let key = store.key().unwrap();
    drop(store);
    std::fs::write(directory.path().join("journal.tmp"), b"[{\"next_client").unwrap();
    std::fs::write(directory.path().join("identity.tmp"), b"device_ke").unwrap();
    let store = open(directory.path());
    assert_eq!(outbox(&store), [1]);
    assert_eq!(store.key().unwrap().to_bytes(), key.to_bytes());
    assert!(!directory.path().join("journal.tmp").exists());
}

#[test]
fn a_rewritten_journal_amounts_to_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.set_account(&account()).unwrap();
    let chat = ChatId::direct(user(1), user(2));
    for n in 1..=600 {
        store.commit(vec![queued(n), sent(n)]).unwrap();
    }
    let entry = LogEntry {
        chat,
        seq: MessageSeq::new(601),
        sender: user(2),
        time_ms: 1,
        body: Bytes::from_static(b"hi"),
        change: None,
        disappears_ms: None,
        is_own: false,
    };
    store.commit(vec![Record::Delivered(entry), Record::Named { user: user(2), handle: "bob".to_owned() }]).unwrap();
    store.commit(vec![queued(601)]).unwrap();
    let (before, log) = (store.kept(), store.log(chat, 10_000, 0));
    assert_eq!(log.len(), LOG_MESSAGES_MAX);
    store.rewrite().unwrap();
    store.commit(vec![queued(602)]).unwrap();
    drop(store);

    let mut store = open(directory.path());
    assert_eq!(store.kept().chats, before.chats);
    assert_eq!(store.log(chat, 10_000, 0), log);
    assert_eq!(outbox(&store), [601, 602]);
    assert_eq!(store.kept().next_client_seq, 603);
    assert_eq!(store.names().get(&user(2)).map(String::as_str), Some("bob"));
}

#[test]
fn a_profile_serves_one_process_and_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert!(matches!(Store::open(directory.path(), SERVER), Err(Error::StoreInUse { .. })));
    drop(store);
    assert!(matches!(Store::open(directory.path(), "other:1"), Err(Error::InvalidOption(_))));
}

#[test]
fn the_device_key_is_for_the_owner_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let _store = open(directory.path());
    for name in ["identity.toml", "journal.jsonl"] {
        let mode = directory.path().join(name).metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn what_has_disappeared_is_neither_in_the_log_nor_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.set_account(&account()).unwrap();
    let chat = ChatId::direct(user(1), user(2));
    let delivered = |seq, text: &str, disappears_ms, timer: Option<u32>| {
        let change = timer.map(|timer_s| crate::types::GroupChange::SetTimer { timer_s });
        let (seq, body, time_ms) = (MessageSeq::new(seq), Bytes::copy_from_slice(text.as_bytes()), 1_000);
        let message = Message { chat, seq, sender: user(2), time_ms, disappears_ms, body, change };
        Record::Delivered(LogEntry::new(message))
    };
    let own = |n: u64, seq| {
        let (client_seq, seq) = (ClientSeq::new(n), MessageSeq::new(seq));
        vec![queued(n), Record::Sent { client_seq, chat, seq, time_ms: 1_000 }]
    };
    store.commit(vec![delivered(1, "stays", None, None)]).unwrap();
    store.commit(own(1, 2)).unwrap();
    store.commit(vec![delivered(3, "", None, Some(5)), delivered(4, "goes", Some(6_000), None)]).unwrap();
    store.commit(own(2, 5)).unwrap();
    store.commit(vec![delivered(6, "", None, Some(0))]).unwrap();
    store.commit(own(3, 7)).unwrap();
    let seqs = |store: &mut Store, now_ms| -> Vec<u64> {
        store.log(chat, 100, now_ms).iter().map(|message| message.seq.get()).collect()
    };
    assert_eq!(seqs(&mut store, 5_999), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(store.log(chat, 100, 5_999)[4].disappears_ms, Some(6_000), "own ones too");
    drop(store);
    let on_disk = |text: &str| {
        let journal = std::fs::read_to_string(directory.path().join("journal.jsonl")).unwrap();
        journal.contains(&data_encoding::BASE64.encode(text.as_bytes()))
    };
    assert!(on_disk("goes") && on_disk("body 2") && on_disk("stays"));
    let mut store = open(directory.path());
    store.forget_disappeared(6_000).unwrap();
    assert!(!on_disk("goes") && !on_disk("body 2") && on_disk("stays") && on_disk("body 3"));
    assert_eq!(seqs(&mut store, 6_000), [1, 2, 3, 6, 7]);
    drop(store);
    assert_eq!(seqs(&mut open(directory.path()), 0), [1, 2, 3, 6, 7]);
}
