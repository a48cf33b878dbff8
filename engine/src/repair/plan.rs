//! Which of the tables in a directory make its partition: a pure function of what the tables say of themselves.
//!
//! | what is found | what is done |
//! |---|---|
//! | what a merge wrote, and all it read, whole | what it read is kept: that has all of it, completed or not |
//! | the same, and something it read is gone | it was completed: what it read is dropped, and what that replaced |
//! | the same, and something it read is damaged | what it wrote is kept where it is complete |
//! | log entries or keys overlap where they must not | the later file is kept: the other was replaced before |
//! | level-0 state up to an entry that a lower level has | dropped: a merge takes all of level 0 |
//! | the newest flush has no state file, which is written last | not completed: dropped |
//! | a damaged file, and a journal from before its entries on | what is later is made again from the journal |
//!
//! `applied` is the end of the last complete flush: a flush begins with the entry behind the manifest's, so a file that
//! begins with entry n proves that everything below n was complete.
//!
//! Invariants
//! - What is kept makes a version: [`conflict`] finds nothing in it.
//! - A file that is not whole is never kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ids::{FileId, LogIndex, Term},
    table::meta::{Class, FileMeta},
    tree::conflict,
};

/// A whole file.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) meta: FileMeta,
    pub(crate) replaces: Vec<FileId>,
}

/// A file that is not whole, with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) id: FileId,
    pub(crate) meta: Option<FileMeta>,
}

/// What to keep.
#[derive(Debug, Default)]
pub(crate) struct Rebuild {
    pub(crate) kept: Vec<FileMeta>,
    pub(crate) dropped: Vec<(FileId, String)>,
    /// Broken files whose rows are nowhere else.
    pub(crate) lost: Vec<FileId>,
    pub(crate) applied: LogIndex,
    pub(crate) term: Term,
    /// Entries that are neither in files nor in the journal, if they changed anything.
    pub(crate) lost_entries: Option<(LogIndex, LogIndex)>,
}

struct State<'a> {
    whole: BTreeMap<FileId, &'a Candidate>,
    broken: BTreeSet<FileId>,
    dropped: BTreeMap<FileId, String>,
    /// Broken files that something whole replaces.
    replaced: BTreeSet<FileId>,
}

/// Decides. `journal`: the first and last entry that the journal has of the partition, where that is known.
pub(crate) fn plan_rebuild(whole: &[Candidate], broken: &[Broken], journal: Option<(LogIndex, LogIndex)>) -> Rebuild {
    let mut state = State {
        whole: whole.iter().map(|file| (file.meta.id, file)).collect(),
        broken: broken.iter().map(|file| file.id).collect(),
        dropped: BTreeMap::new(),
        replaced: BTreeSet::new(),
    };
    state.resolve_merges();
    let mut rebuild = Rebuild::default();
    (rebuild.applied, rebuild.term) = state.last_complete();
    state.drop_merged_level_0();
    state.drop_overlapping();
    rebuild.lost = state.broken.difference(&state.replaced).copied().collect();
    if let Some((first, _)) = journal {
        state.cut(&mut rebuild, broken, first);
        let next = rebuild.applied.next();
        if first > next {
            let last = LogIndex::new(first.get() - 1);
            rebuild.lost_entries = Some((next, last));
            rebuild.applied = last;
        }
    }
    rebuild.kept = state.kept().map(|file| file.meta.clone()).collect();
    rebuild.dropped = state.dropped.into_iter().collect();
    assert!(conflict(&rebuild.kept).is_none(), "what is kept makes a version");
    let is_above = |file: &FileMeta| file.properties.applied_high > rebuild.applied;
    assert!(!rebuild.kept.iter().any(is_above), "nothing that is kept holds entries above {}", rebuild.applied);
    rebuild
}

impl State<'_> {
    fn kept(&self) -> impl Iterator<Item = &Candidate> {
        self.whole.values().filter(|file| !self.dropped.contains_key(&file.meta.id)).copied()
    }

    fn drop(&mut self, id: FileId, reason: &str) {
        self.dropped.entry(id).or_insert_with(|| reason.to_owned());
    }

    /// A file that is replaced, with all that it replaced itself.
    fn drop_replaced(&mut self, id: FileId, by: FileId) {
        if self.broken.contains(&id) {
            self.replaced.insert(id);
        }
        let Some(file) = self.whole.get(&id).copied() else { return };
        if self.dropped.contains_key(&id) {
            return;
        }
        self.drop(id, &format!("file {by} replaces it"));
        for input in &file.replaces {
            self.drop_replaced(*input, by);
        }
    }

    fn resolve_merges(&mut self) {
        let outputs: Vec<_> = self.whole.values().rev().filter(|file| !file.replaces.is_empty()).copied().collect();
        let mut done = BTreeSet::new();
        for newest in &outputs {
            if self.dropped.contains_key(&newest.meta.id) || !done.insert(&newest.replaces) {
                continue;
            }
            // What one merge wrote: descending ids and keys. An attempt before it has written the same keys again.
            let mut group: Vec<&Candidate> = Vec::new();
            for file in outputs.iter().filter(|file| file.replaces == newest.replaces) {
                let last = &file.meta.properties.last_key;
                if group.last().is_none_or(|next| *last < next.meta.properties.first_key) {
                    group.push(file);
                } else {
                    self.drop(file.meta.id, "a later attempt of the same merge wrote it again");
                }
            }
            let inputs = &newest.replaces;
            let is_stale = inputs.iter().any(|id| self.dropped.contains_key(id));
            let is_completed = inputs.iter().any(|id| !self.whole.contains_key(id) && !self.broken.contains(id));
            let all_whole = inputs.iter().all(|id| self.whole.contains_key(id));
            let reason = if is_stale {
                "it was merged from files that a later merge has replaced"
            } else if is_completed || (!all_whole && self.is_complete(&group)) {
                for id in inputs {
                    self.drop_replaced(*id, newest.meta.id);
                }
                continue;
            } else if all_whole {
                "all that it was merged from is whole"
            } else {
                "the merge that wrote it was not completed"
            };
            for file in group {
                self.drop(file.meta.id, reason);
            }
        }
    }

    /// Whether a merge has written all it had to, as far as can be told.
    fn is_complete(&self, group: &[&Candidate]) -> bool {
        let newest = group[0];
        if newest.meta.properties.class != Class::State {
            return true;
        }
        let inputs = newest.replaces.iter().filter_map(|id| self.whole.get(id));
        let highest = inputs.map(|file| &file.meta.properties.last_key).max();
        highest.is_none_or(|highest| newest.meta.properties.last_key >= *highest)
    }

    fn drop_merged_level_0(&mut self) {
        let state = || self.kept().filter(|file| file.meta.properties.class == Class::State);
        let lower = state().filter(|file| file.meta.properties.level > 0);
        let Some(merged) = lower.map(|file| file.meta.properties.applied_high).max() else { return };
        let upper = state().filter(|file| file.meta.properties.level == 0);
        let stale = upper.filter(|file| file.meta.properties.applied_high <= merged);
        let stale: Vec<_> = stale.map(|file| file.meta.id).collect();
        for id in stale {
            self.drop(id, &format!("level 0 was merged up to entry {merged}"));
        }
    }

    fn drop_overlapping(&mut self) {
        loop {
            let files: Vec<_> = self.kept().map(|file| file.meta.clone()).collect();
            let Some(found) = conflict(&files) else { return };
            self.drop(found.older, &format!("{}, and file {} is later", found.reason, found.newer));
        }
    }

    /// The end of the last complete flush; incomplete ones are dropped.
    fn last_complete(&mut self) -> (LogIndex, Term) {
        // An incomplete flush has begun behind it: that is where a manifest was.
        let mut proven = LogIndex::ZERO;
        loop {
            let Some(newest) = self.kept().max_by_key(|file| file.meta.properties.applied_high) else {
                return (proven, Term::ZERO);
            };
            let properties = &newest.meta.properties;
            let (low, high, term) = (properties.applied_low, properties.applied_high, properties.term);
            let of_it = |file: &&Candidate| file.meta.properties.applied_high == high;
            let has_state = self.kept().filter(of_it).any(|file| file.meta.properties.class == Class::State);
            // A merge reads only what a manifest names.
            let was_merged =
                self.whole.values().any(|file| !file.replaces.is_empty() && file.meta.properties.applied_high >= high);
            if has_state || was_merged {
                return (high.max(proven), term);
            }
            let begun: Vec<_> = self.kept().filter(of_it).map(|file| file.meta.id).collect();
            for id in begun {
                self.drop(id, &format!("the flush of entries {low} to {high} has no state file: not completed"));
            }
            proven = proven.max(LogIndex::new(low.get().saturating_sub(1)));
        }
    }

    /// Goes back to before the rows of every broken file, where the journal has all entries from there on and no kept
    /// file has entries from both sides.
    fn cut(&mut self, rebuild: &mut Rebuild, broken: &[Broken], first: LogIndex) {
        let lost = broken.iter().filter(|file| rebuild.lost.contains(&file.id));
        let begins = |file: &Broken| file.meta.as_ref().map_or(LogIndex::new(1), |meta| meta.properties.applied_low);
        let Some(least) = lost.map(begins).min() else { return };
        let mut at = least.get().saturating_sub(1).min(rebuild.applied.get());
        loop {
            let straddles = |file: &&Candidate| {
                file.meta.properties.applied_low.get() <= at && at < file.meta.properties.applied_high.get()
            };
            match self.kept().find(straddles) {
                Some(file) => at = file.meta.properties.applied_low.get().saturating_sub(1),
                None => break,
            }
        }
        if first.get() > at + 1 {
            return;
        }
        let later = self.kept().filter(|file| file.meta.properties.applied_low.get() > at);
        let later: Vec<_> = later.map(|file| file.meta.id).collect();
        for id in later {
            self.drop(id, &format!("the journal has its entries, and a file from entry {least} on is damaged"));
        }
        rebuild.lost.clear();
        rebuild.applied = LogIndex::new(at);
        let of_end = self.kept().max_by_key(|file| file.meta.properties.applied_high);
        rebuild.term = of_end.map_or(Term::ZERO, |file| file.meta.properties.term);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::meta::tests::file;

    fn candidate(id: u64, class: Class, level: u8, (low, high): (u64, u64), replaces: &[u64]) -> Candidate {
        let mut meta = file(id, class, level, 0, 8192);
        meta.properties.applied_low = LogIndex::new(low);
        meta.properties.applied_high = LogIndex::new(high);
        Candidate { meta, replaces: replaces.iter().map(|id| FileId::new(*id)).collect() }
    }

    type Keys = (&'static str, &'static str);

    fn state(id: u64, level: u8, entries: (u64, u64), keys: Keys, replaces: &[u64]) -> Candidate {
        let mut made = candidate(id, Class::State, level, entries, replaces);
        (made.meta.properties.first_key, made.meta.properties.last_key) = (keys.0.into(), keys.1.into());
        made
    }

    fn broken(id: u64, known: Option<Candidate>) -> Broken {
        Broken { id: FileId::new(id), meta: known.map(|known| known.meta) }
    }

    fn kept(whole: &[Candidate], broken: &[Broken], journal: Option<(u64, u64)>) -> (Vec<u64>, u64, Vec<u64>) {
        let journal = journal.map(|(first, last)| (LogIndex::new(first), LogIndex::new(last)));
        let found = plan_rebuild(whole, broken, journal);
        let ids = found.kept.iter().map(|file| file.id.get()).collect();
        (ids, found.applied.get(), found.lost.iter().map(|id| id.get()).collect())
    }

    #[test]
    fn a_merge_of_several_files_counts_where_an_input_is_gone_and_else_its_inputs_do() {
        let inputs = [state(1, 1, (1, 9), ("a", "m"), &[]), state(2, 0, (10, 19), ("c", "z"), &[])];
        let outputs = [state(5, 1, (1, 19), ("a", "k"), &[2, 1]), state(7, 1, (1, 19), ("l", "z"), &[2, 1])];
        let all = [&inputs[..], &outputs[..]].concat();
        assert_eq!(kept(&all, &[], None), (vec![1, 2], 19, vec![]));
        assert_eq!(kept(&[&inputs[..], &outputs[..1]].concat(), &[], None), (vec![1, 2], 19, vec![]));
        assert_eq!(kept(&[&inputs[1..], &outputs[..]].concat(), &[], None), (vec![5, 7], 19, vec![]));
        // A damaged input: the outputs, where they go as far as the other one does.
        let damaged = [broken(1, None)];
        assert_eq!(kept(&[&inputs[1..], &outputs[..]].concat(), &damaged, None), (vec![5, 7], 19, vec![]));
        assert_eq!(kept(&[&inputs[1..], &outputs[..1]].concat(), &damaged, None), (vec![2], 19, vec![1]));
        // An attempt before wrote some of it too.
        let again = state(4, 1, (1, 19), ("a", "k"), &[2, 1]);
        assert_eq!(kept(&[&[again][..], &outputs[..]].concat(), &[], None), (vec![5, 7], 19, vec![]));
    }

    #[test]
    fn what_a_replaced_file_had_replaced_goes_with_it() {
        let first = candidate(1, Class::Messages, 0, (1, 5), &[]);
        let merged = candidate(3, Class::Messages, 1, (1, 9), &[2, 1]);
        let again = candidate(9, Class::Messages, 2, (1, 20), &[8, 3]);
        let flushed = state(10, 0, (21, 30), ("a", "b"), &[]);
        let all = [first.clone(), merged, again.clone(), flushed.clone()];
        assert_eq!(kept(&all, &[], None), (vec![9, 10], 30, vec![]));
        // Also where the file between them is gone.
        assert_eq!(kept(&[first, again, flushed], &[], None), (vec![9, 10], 30, vec![]));
    }

    #[test]
    fn a_flush_without_its_state_file_was_not_completed_and_an_earlier_try_counts() {
        let before = state(1, 0, (1, 5), ("a", "b"), &[]);
        let messages = candidate(3, Class::Messages, 0, (8, 12), &[]);
        // Entries 6 and 7 wrote no rows.
        assert_eq!(kept(&[before.clone(), messages.clone()], &[], None), (vec![1], 7, vec![]));
        let tried = [candidate(2, Class::Messages, 0, (6, 9), &[]), state(3, 0, (6, 9), ("a", "b"), &[])];
        let later = candidate(4, Class::Messages, 0, (6, 12), &[]);
        assert_eq!(kept(&[&[before][..], &tried, &[later]].concat(), &[], None), (vec![1, 2, 3], 9, vec![]));
    }

    #[test]
    fn the_journal_makes_up_for_a_damaged_file_from_where_no_file_has_both_sides() {
        let files = [
            state(1, 0, (1, 5), ("a", "b"), &[]),
            candidate(2, Class::Messages, 1, (4, 12), &[90]),
            state(4, 0, (13, 20), ("a", "b"), &[]),
        ];
        let damaged = [broken(3, Some(candidate(3, Class::Inbox, 0, (10, 12), &[])))];
        // Entry 10 is in the middle of file 2, and entry 4 in that of file 1.
        assert_eq!(kept(&files, &damaged, Some((1, 20))), (vec![], 0, vec![]));
        assert_eq!(kept(&files, &damaged, Some((2, 20))), (vec![1, 2, 4], 20, vec![3]));
        let damaged = [broken(4, Some(files[2].clone()))];
        assert_eq!(kept(&files[..2], &damaged, Some((13, 20))), (vec![1, 2], 12, vec![]));
        assert_eq!(kept(&files[..2], &damaged, Some((21, 30))), (vec![1, 2], 20, vec![4]));
        assert_eq!(plan_rebuild(&[], &[], None).applied, LogIndex::ZERO);
    }
}
