//! The tree against plain maps.
//!
//! | module | what it holds |
//! |---|---|
//! | `model` | the maps, and every read held against them |
//! | `seeds` | random lives: flushes, merges, readers, views, crashes, faults |
//! | `crash` | a scripted life with a crash at every operation |
//! | `planted` | bugs that these must catch |
//! | here | one property a test |

mod crash;
mod model;
#[cfg(feature = "planted-bugs")]
mod planted;
mod seeds;

use std::collections::BTreeSet;

use columba_wire::{ChatId, MessageSeq};

use self::model::{Below, Harm, Model, check, dir, flush, meta, open, settle};
use super::{plan::Plan, *};
use crate::{
    env::{Disk as _, Rng, executor::block_on, sim_disk::SimDisk},
    error::Error,
    table::meta::Class,
};

const NOW: Below = Below { inbox_head: 0, dead_before_ms: 0 };

#[test]
fn a_full_disk_changes_nothing_and_the_flush_may_be_tried_again() {
    let disk = SimDisk::new(3);
    let mut rng = Rng::from_seed(3);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let mut model = Model::default();
        let first = model.next_rows(&mut rng, 1000, 0);
        model.apply(&first);
        flush(&tree, &first, 1).await.unwrap();
        let second = model.next_rows(&mut rng, 1050, 0);
        let before = disk.files();
        // Every point at which space can end: the tables' blocks, their footers, the manifest.
        let mut refusals = 0;
        for room in (0..).step_by(2048) {
            disk.set_capacity(disk.used() + room);
            let flushed = flush(&tree, &second, 2).await;
            let Err(error) = flushed else { break };
            assert!(matches!(error, Error::NoSpace { .. }), "{error}");
            refusals += 1;
            assert_eq!(tree.meta(), meta(1));
            assert!(disk.files().iter().all(|file| before.contains(file) || file.0.ends_with("manifest.new")));
            check(&tree.view(), &model, NOW, &mut rng, Harm::None).await;
        }
        assert!(refusals > 3);
        model.apply(&second);
        check(&tree.view(), &model, NOW, &mut rng, Harm::None).await;
    });
}

#[test]
fn tables_without_a_manifest_and_a_manifest_without_tables_are_reported() {
    let disk = SimDisk::new(4);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let rows = Model::default().next_rows(&mut Rng::from_seed(4), 1000, 0);
        flush(&tree, &rows, 1).await.unwrap();
        drop(tree);
        let whole = disk.snapshot();
        disk.remove(&dir().join("manifest")).await.unwrap();
        let files = disk.files();
        assert!(matches!(open(&disk).await, Err(Error::DamagedFile { .. })));
        assert_eq!(disk.files(), files, "nothing is taken for an orphan");
        let table = whole.files().into_iter().map(|(path, _)| path).find(|path| !path.ends_with("manifest")).unwrap();
        whole.remove(&table).await.unwrap();
        assert!(matches!(open(&whole).await, Err(Error::DamagedFile { .. })));
    });
}

#[test]
fn a_window_past_its_retention_is_dropped_without_reading_or_writing_a_message() {
    let disk = SimDisk::new(5);
    let mut rng = Rng::from_seed(5);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let mut model = Model::default();
        for n in 1..=20 {
            let mut rows = model.next_rows(&mut rng, n * 100, 0);
            (rows.state, rows.inbox) = Default::default();
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
        }
        settle(&tree, &NOW, |_| {}).await.unwrap();
        let below = Below { dead_before_ms: 1200, ..NOW };
        let before = (tree.stats(), tree.shared().tables_open());
        let Some(Plan::Drop(dropped)) = tree.plan(below.dead_before_ms) else { panic!("there is something to drop") };
        let compacted = tree.compact(&Plan::Drop(dropped.clone()), below).await.unwrap();
        assert_eq!((compacted.bytes_written, compacted.files_removed), (0, dropped.len()));
        assert_eq!(tree.stats().merged_bytes_total, before.0.merged_bytes_total);
        assert!(compacted.bytes_removed > 0 && tree.stats().bytes + compacted.bytes_removed == before.0.bytes);
        check(&tree.view(), &model, below, &mut rng, Harm::None).await;
    });
}

#[test]
fn a_view_stays_as_it_is_and_its_files_stay_as_long_as_it_does() {
    let disk = SimDisk::new(6);
    let mut rng = Rng::from_seed(6);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let mut model = Model::default();
        for n in 1..=3 {
            let rows = model.next_rows(&mut rng, 1000, 0);
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
        }
        let (view, then) = (tree.view(), model.clone());
        for n in 4..=20 {
            let rows = model.next_rows(&mut rng, 1000, 0);
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
            settle(&tree, &NOW, |_| {}).await.unwrap();
        }
        assert_eq!(view.meta(), meta(3));
        let all = ScanRange { start: vec![0x40], end: vec![0x41] };
        let rows = view.scan(Class::State, &all, usize::MAX, usize::MAX).await.unwrap();
        assert!(
            rows.iter()
                .map(|(key, value)| (&key[..], value))
                .eq(then.state.iter().map(|(key, value)| (&key[..], value)))
        );
        for chat in (0..12).map(|n| ChatId::from_bytes([n; 16])) {
            let (from, to) = (MessageSeq::new(1), MessageSeq::MAX);
            let range = MessageRange { chat, from, to, count_max: usize::MAX, bytes_max: usize::MAX };
            let expected = then.messages.range((chat, from)..=(chat, to)).map(|(_, message)| message);
            assert!(view.oldest_messages(&range).await.unwrap().iter().eq(expected));
        }
        let live: BTreeSet<_> = tree.version().files().map(|file| file.id()).collect();
        assert!(view.files().iter().any(|file| !live.contains(&file.id)), "the view needs files that are replaced");
        assert!(disk.files().len() > tree.stats().files + 1);
        drop(view);
        tree.collect_garbage().await.unwrap();
        assert_eq!(disk.files().len(), tree.stats().files + 1);
    });
}

#[test]
fn a_kept_page_answers_like_the_files_over_flushes_and_merges() {
    for seed in 0..20 {
        let mut rng = Rng::from_seed(seed);
        block_on(async {
            let tree = open(&SimDisk::new(seed)).await.unwrap();
            let mut model = Model::default();
            let mut kept = 0;
            for n in 1..=30 {
                let rows = model.next_rows(&mut rng, n * 20, 0);
                model.apply(&rows);
                flush(&tree, &rows, n).await.unwrap();
                if rng.one_in(3) {
                    settle(&tree, &NOW, |_| {}).await.unwrap();
                }
                for _ in 0..30 {
                    let chat = model::chat(rng.below(13));
                    let last = model.chats.get(&chat).map_or(0, |(seq, _)| *seq);
                    let from = MessageSeq::new(1 + rng.below(last + 2));
                    let to = MessageSeq::new(from.get() + rng.below(last + 2));
                    let to = if rng.one_in(2) { MessageSeq::MAX } else { to };
                    let count_max = usize::try_from(1 + rng.below(70)).unwrap();
                    let bytes_max = if rng.one_in(3) { 2_000 } else { usize::MAX };
                    let range = MessageRange { chat, from, to, count_max, bytes_max };
                    let before = tree.shared().block_stats();
                    let found = tree.newest_messages(&range).await.unwrap();
                    let after = tree.shared().block_stats();
                    kept += u64::from(after.hits > before.hits && after.misses == before.misses);
                    let expected = tree.view().newest_messages(&range).await.unwrap();
                    assert_eq!(found, expected, "seed {seed}, flush {n}: {range:?}");
                }
            }
            assert!(kept > 100, "seed {seed}: {kept} of 900 reads took what was kept");
        });
    }
}

#[test]
fn a_damaged_file_is_quarantined_and_everything_else_goes_on() {
    let disk = SimDisk::new(7);
    let mut rng = Rng::from_seed(7);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let mut model = Model::default();
        for n in 1..=8 {
            let rows = model.next_rows(&mut rng, 1000, 0);
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
        }
        let version = tree.version();
        let damaged = version.messages.last().unwrap();
        let path = dir().join(format!("table-{:016x}", damaged.id().get()));
        assert!(disk.flip_bit(&path, 100, 3));
        let plan = tree.plan(0).unwrap();
        assert!(
            tree.compact(&plan, NOW).await.is_err_and(|error| error.is_damage())
                || !matches!(&plan,
            Plan::Merge(merge) if merge.class == Class::Messages)
        );
        let error = tree.verify().await.unwrap_err();
        assert!(error.is_damage(), "{error}");
        assert_eq!(tree.stats().quarantined, 1);
        settle(&tree, &NOW, |_| {}).await.unwrap();
        assert!(tree.version().files().any(|file| file.id() == damaged.id()), "it is kept");
    });
}
