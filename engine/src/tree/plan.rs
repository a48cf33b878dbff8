//! Which files to drop or merge next: a pure function of what the manifest says.
//!
//! | class | plan |
//! |---|---|
//! | messages | a file whose newest message is past every retention is dropped, unread |
//! | messages, the newest window | [`WINDOW_FAN_IN`] neighbours of a level are merged to one of the next |
//! | messages, an older window | merged until [`WINDOW_FILES_SETTLED`] files are left; then it is left alone |
//! | inbox | from [`INBOX_FILES_AT`] files on: the newest, and on towards the older while those are not much larger |
//! | state, level 0 | from [`STATE_FILES_AT`] files on: all of them, into level 1 |
//! | state, level n | above [`STATE_LEVEL_BYTES`] times ten to the n - 1: its oldest file, into level n + 1 |
//!
//! Drops come first, they cost nothing; then state, because level 0 is what every point read looks through; then
//! inboxes; then messages.
//!
//! Invariants
//! - Inputs of messages and inboxes are neighbours in order of age: merging keeps the order of versions true.
//! - A level-0 plan takes every file of level 0, so nothing older stays above what it writes.
//! - A quarantined file is in no plan but a drop.
//! - Plans end: carried out again and again, without new files, there comes a version without a plan.

use crate::{
    ids::FileId,
    limits::{
        INBOX_FILES_AT, MERGE_BYTES_MAX, STATE_FILES_AT, STATE_LEVEL_BYTES, STATE_LEVELS_MAX, WINDOW_FAN_IN,
        WINDOW_FILES_SETTLED,
    },
    table::meta::{Class, FileMeta, Properties},
};

/// A live file, to be planned with.
#[derive(Clone, Copy, Debug)]
pub struct PlanFile<'a> {
    /// What the manifest says of it.
    pub meta: &'a FileMeta,
    /// Whether damage was found in it.
    pub quarantined: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// These files hold nothing that anybody may still read.
    Drop(Vec<FileId>),
    /// Make one sequence of these files.
    Merge(Merge),
}

/// A merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Kind of rows.
    pub class: Class,
    /// Level of what is written.
    pub level: u8,
    /// Window of what is written.
    pub window: u64,
    /// Files, the one that decides first.
    pub inputs: Vec<FileId>,
    /// Whether deletion markers hide nothing behind these files and may go.
    pub drops_markers: bool,
}

/// The next thing to do, if there is any. `files` in any order; every message with a time below `dead_before_ms` is
/// past its retention.
///
/// Cost: sorts the files; a few microseconds for a hundred.
pub fn plan_compaction(files: &[PlanFile<'_>], dead_before_ms: u64) -> Option<Plan> {
    let of = |class: Class| {
        let mut found: Vec<_> = files.iter().copied().filter(|file| file.meta.properties.class == class).collect();
        // Oldest first.
        found.sort_by_key(|file| {
            let properties = &file.meta.properties;
            (properties.window, properties.applied_high, file.meta.id)
        });
        found
    };
    let messages = of(Class::Messages);
    let dead = |file: &&PlanFile<'_>| file.meta.properties.time_high < dead_before_ms;
    let dead: Vec<_> = messages.iter().filter(dead).map(|file| file.meta.id).collect();
    if !dead.is_empty() {
        return Some(Plan::Drop(dead));
    }
    let merge =
        plan_state(&of(Class::State)).or_else(|| plan_inbox(&of(Class::Inbox))).or_else(|| plan_windows(&messages));
    merge.map(Plan::Merge)
}

fn level_of(file: &PlanFile<'_>) -> usize {
    usize::from(file.meta.properties.level)
}

fn plan_state(oldest_first: &[PlanFile<'_>]) -> Option<Merge> {
    let level = |n: usize| oldest_first.iter().filter(move |file| level_of(file) == n);
    let newest_first: Vec<_> = level(0).rev().collect();
    if newest_first.len() >= STATE_FILES_AT
        && let Some(found) = merge_down(oldest_first, 0, newest_first)
    {
        return Some(found);
    }
    for n in 1..STATE_LEVELS_MAX {
        let limit = STATE_LEVEL_BYTES.saturating_mul(10u64.saturating_pow(u32::try_from(n - 1).expect("few levels")));
        let bytes: u64 = level(n).map(|file| file.meta.bytes).sum();
        if bytes <= limit {
            continue;
        }
        // The oldest whose merge is possible: going round, each file of a level has its turn.
        let mut candidates: Vec<_> = level(n).collect();
        candidates.sort_by_key(|file| file.meta.id);
        if let Some(found) = candidates.into_iter().find_map(|file| merge_down(oldest_first, n, vec![file])) {
            return Some(found);
        }
    }
    None
}

/// State files of a level, newest first, with what they touch of the next one.
fn merge_down<'a, 'b>(all: &'a [PlanFile<'b>], from: usize, mut inputs: Vec<&'a PlanFile<'b>>) -> Option<Merge> {
    let low = inputs.iter().map(|file| &file.meta.properties.first_key).min()?.clone();
    let high = inputs.iter().map(|file| &file.meta.properties.last_key).max()?.clone();
    let touches = |file: &&PlanFile<'_>| {
        let Properties { first_key, last_key, .. } = &file.meta.properties;
        *first_key <= high && low <= *last_key
    };
    inputs.extend(all.iter().filter(|file| level_of(file) == from + 1).filter(touches));
    if inputs.iter().any(|file| file.quarantined) {
        return None;
    }
    Some(Merge {
        class: Class::State,
        level: u8::try_from(from + 1).expect("there are few levels"),
        window: 0,
        inputs: inputs.iter().map(|file| file.meta.id).collect(),
        drops_markers: !all.iter().filter(|file| level_of(file) > from + 1).any(|file| touches(&file)),
    })
}

fn plan_inbox(oldest_first: &[PlanFile<'_>]) -> Option<Merge> {
    let run = newest_run(oldest_first);
    if run.len() < INBOX_FILES_AT {
        return None;
    }
    Some(merge_of(tail_of_like_size(run), Class::Inbox))
}

fn plan_windows(oldest_first: &[PlanFile<'_>]) -> Option<Merge> {
    let newest = oldest_first.last()?.meta.properties.window;
    for window in oldest_first.chunk_by(|one, next| one.meta.properties.window == next.meta.properties.window) {
        let merge = if window[0].meta.properties.window == newest {
            plan_open_window(window)
        } else {
            plan_older_window(window)
        };
        if merge.is_some() {
            return merge;
        }
    }
    None
}

/// Neighbours of one level, as many as are merged at a time, the oldest of the lowest level that has them.
fn plan_open_window(window: &[PlanFile<'_>]) -> Option<Merge> {
    let runs = window.chunk_by(|one, next| {
        !one.quarantined && !next.quarantined && one.meta.properties.level == next.meta.properties.level
    });
    let enough = runs.filter(|run| run.len() >= WINDOW_FAN_IN && !run[0].quarantined);
    let lowest = enough.min_by_key(|run| run[0].meta.properties.level)?;
    let run = &lowest[..WINDOW_FAN_IN];
    (bytes_of(run) <= MERGE_BYTES_MAX).then(|| merge_of(run, Class::Messages))
}

fn plan_older_window(window: &[PlanFile<'_>]) -> Option<Merge> {
    let run = newest_run(window);
    if run.len() <= WINDOW_FILES_SETTLED {
        return None;
    }
    let tail = tail_of_like_size(run);
    (bytes_of(tail) <= MERGE_BYTES_MAX).then(|| merge_of(tail, Class::Messages))
}

/// The newest files up to the first quarantined one.
fn newest_run<'a, 'b>(oldest_first: &'a [PlanFile<'b>]) -> &'a [PlanFile<'b>] {
    let from = oldest_first.iter().rposition(|file| file.quarantined).map_or(0, |n| n + 1);
    &oldest_first[from..]
}

/// The newest two, and on towards the older as long as the next is at most twice what is taken.
fn tail_of_like_size<'a, 'b>(run: &'a [PlanFile<'b>]) -> &'a [PlanFile<'b>] {
    let mut first = run.len() - 2;
    let mut taken = bytes_of(&run[first..]);
    while first > 0 && run[first - 1].meta.bytes <= taken.saturating_mul(2) {
        first -= 1;
        taken = taken.saturating_add(run[first].meta.bytes);
    }
    &run[first..]
}

fn bytes_of(files: &[PlanFile<'_>]) -> u64 {
    files.iter().map(|file| file.meta.bytes).sum()
}

fn merge_of(oldest_first: &[PlanFile<'_>], class: Class) -> Merge {
    let highest = oldest_first.iter().map(|file| file.meta.properties.level).max().expect("there are inputs");
    Merge {
        class,
        level: highest.saturating_add(1),
        window: oldest_first[0].meta.properties.window,
        inputs: oldest_first.iter().rev().map(|file| file.meta.id).collect(),
        drops_markers: true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::table::meta::tests::file;

    fn plan(files: &[FileMeta], dead_before_ms: u64) -> Option<Plan> {
        let files: Vec<_> = files.iter().map(|meta| PlanFile { meta, quarantined: false }).collect();
        plan_compaction(&files, dead_before_ms)
    }

    fn ids(plan: Option<Plan>) -> Vec<u64> {
        match plan {
            Some(Plan::Merge(merge)) => merge.inputs.iter().map(|id| id.get()).collect(),
            Some(Plan::Drop(files)) => files.iter().map(|id| id.get()).collect(),
            None => Vec::new(),
        }
    }

    fn messages(id: u64, level: u8, window: u64, bytes: u64) -> FileMeta {
        file(id, Class::Messages, level, window, bytes)
    }

    #[test]
    fn the_newest_window_is_merged_by_levels_and_an_older_one_until_it_is_settled() {
        let fan_in = WINDOW_FAN_IN as u64;
        let mut files: Vec<_> = (1..fan_in).map(|id| messages(id, 0, 5, 10)).collect();
        assert_eq!(plan(&files, 0), None);
        files.push(messages(fan_in, 0, 5, 10));
        assert_eq!(ids(plan(&files, 0)), (1..=fan_in).rev().collect::<Vec<_>>());
        // A newer window comes: five of like size, and then they are one.
        let mut files: Vec<_> = (1..=5).map(|id| messages(id, 0, 5, 10)).collect();
        files.push(messages(9, 0, 6, 10));
        assert_eq!(ids(plan(&files, 0)), [5, 4, 3, 2, 1]);
        // A large old file is left alone.
        files[0].bytes = 1000;
        assert_eq!(ids(plan(&files, 0)), [5, 4, 3, 2]);
        let settled: Vec<_> = (1..=WINDOW_FILES_SETTLED as u64).map(|id| messages(id, 0, 5, 10)).collect();
        assert_eq!(plan(&[&settled[..], &[messages(9, 0, 6, 10)]].concat(), 0), None);
    }

    #[test]
    fn what_is_past_every_retention_is_dropped_first() {
        let mut files: Vec<_> = (1..=20).map(|id| messages(id, 0, id, 10)).collect();
        for file in &mut files {
            file.properties.time_high = file.id.get() * 100;
        }
        assert_eq!(ids(plan(&files, 301)), [1, 2, 3]);
    }

    #[test]
    fn state_goes_down_by_levels_and_takes_what_it_touches() {
        let range = |mut file: FileMeta, first: &'static str, last: &'static str| {
            file.properties.first_key = first.into();
            file.properties.last_key = last.into();
            file
        };
        let state = |id, level, bytes| file(id, Class::State, level, 0, bytes);
        let mut files: Vec<_> = (1..=STATE_FILES_AT as u64).map(|id| range(state(id + 10, 0, 10), "d", "m")).collect();
        files.push(range(state(1, 1, 10), "a", "c"));
        files.push(range(state(2, 1, 10), "c", "e"));
        files.push(range(state(3, 2, 10), "k", "l"));
        let Some(Plan::Merge(merge)) = plan(&files, 0) else { panic!("level 0 is full") };
        let mut expected: Vec<_> = (11..11 + STATE_FILES_AT as u64).rev().collect();
        expected.push(2);
        assert_eq!(merge.inputs.iter().map(|id| id.get()).collect::<Vec<_>>(), expected);
        assert!(merge.level == 1 && !merge.drops_markers, "level 2 has what the markers hide");
        files.retain(|file| file.properties.level != 0);
        assert_eq!(plan(&files, 0), None);
        files[0].bytes = STATE_LEVEL_BYTES;
        assert_eq!(ids(plan(&files, 0)), [1], "the oldest of a level that is too large");
    }

    #[test]
    fn a_quarantined_file_is_in_no_merge_and_nothing_is_merged_across_it() {
        let files: Vec<_> = (1..=40).map(|id| messages(id, 0, 5, 10)).collect();
        for class in [Class::Messages, Class::Inbox, Class::State] {
            let files: Vec<_> = files
                .iter()
                .cloned()
                .map(|mut file| {
                    file.properties.class = class;
                    file
                })
                .collect();
            let files: Vec<_> = files.iter().map(|meta| PlanFile { meta, quarantined: meta.id.get() == 30 }).collect();
            let found = ids(plan_compaction(&files, 0));
            assert!(!found.contains(&30));
            assert!(found.iter().all(|id| *id < 30) || found.iter().all(|id| *id > 30), "{class:?} {found:?}");
            assert_eq!(found.is_empty(), class == Class::State, "{class:?}");
        }
    }

    /// Carries out a plan on paper.
    fn carry_out(files: &mut Vec<FileMeta>, plan: &Plan, next_id: &mut u64) -> u64 {
        match plan {
            Plan::Drop(ids) => {
                files.retain(|file| !ids.contains(&file.id));
                0
            }
            Plan::Merge(merge) => {
                let inputs: Vec<_> = files.iter().filter(|file| merge.inputs.contains(&file.id)).cloned().collect();
                assert_eq!(inputs.len(), merge.inputs.len());
                files.retain(|file| !merge.inputs.contains(&file.id));
                let mut out = file(*next_id, merge.class, merge.level, merge.window, bytes_of_metas(&inputs));
                *next_id += 1;
                out.properties.applied_low = inputs.iter().map(|file| file.properties.applied_low).min().unwrap();
                out.properties.applied_high = inputs.iter().map(|file| file.properties.applied_high).max().unwrap();
                let bytes = out.bytes;
                files.push(out);
                bytes
            }
        }
    }

    fn bytes_of_metas(files: &[FileMeta]) -> u64 {
        files.iter().map(|file| file.bytes).sum()
    }

    proptest! {
        #[test]
        fn plans_keep_the_order_end_and_rewrite_little(
            flushes in proptest::collection::vec((0u64..3, 1u64..100), 1..120),
        ) {
            let mut files = Vec::new();
            let (mut next_id, mut window, mut written, mut flushed) = (1, 0, 0, 0);
            for (n, (later, bytes)) in flushes.iter().enumerate() {
                window += u64::from(*later == 2 && n % 10 == 9);
                for class in Class::ALL {
                    let mut meta = file(next_id, class, 0, if class == Class::Messages { window } else { 0 }, *bytes);
                    meta.properties.applied_low = crate::ids::LogIndex::new(n as u64);
                    meta.properties.applied_high = crate::ids::LogIndex::new(n as u64);
                    next_id += 1;
                    flushed += if class == Class::Messages { *bytes } else { 0 };
                    files.push(meta);
                }
                let mut steps = 0;
                while let Some(plan) = plan(&files, 0) {
                    let bytes = carry_out(&mut files, &plan, &mut next_id);
                    if let Plan::Merge(Merge { class: Class::Messages, .. }) = plan {
                        written += bytes;
                    }
                    steps += 1;
                    prop_assert!(steps < 100, "plans end");
                }
                let mut windows: BTreeMap<u64, Vec<&FileMeta>> = BTreeMap::new();
                for file in files.iter().filter(|file| file.properties.class == Class::Messages) {
                    windows.entry(file.properties.window).or_default().push(file);
                }
                for (number, mut files) in windows {
                    files.sort_by_key(|file| file.properties.applied_low);
                    for pair in files.windows(2) {
                        prop_assert!(pair[0].properties.applied_high < pair[1].properties.applied_low);
                    }
                    let most = if number == window { 3 * (WINDOW_FAN_IN - 1) } else { WINDOW_FILES_SETTLED };
                    prop_assert!(files.len() <= most, "window {number}: {} files", files.len());
                }
            }
            // Two levels and the settling of a window: each byte is rewritten a few times, whatever comes.
            prop_assert!(written <= flushed * 5, "{written} of {flushed}");
        }
    }
}
