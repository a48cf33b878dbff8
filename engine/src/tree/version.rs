//! The live files at one time. Immutable: a change makes the next version; readers keep the one they began with.
//!
//! | class | order |
//! |---|---|
//! | messages | newest window first, in a window the newest log entries first |
//! | inbox | the same, without windows; every key is in one file |
//! | state | level 0 newest first, then each level ascending by key, without overlaps |
//!
//! Invariants
//! - For a state key the first file that has it decides, in this order; a deletion marker there hides what is behind.
//! - A chat's messages in a file have higher seqs than those in every file behind it.

use core::cell::Cell;
use std::rc::Rc;

use super::manifest::Manifest;
use crate::{
    ids::FileId,
    table::meta::{Class, FileMeta},
};

/// A live file.
#[derive(Debug)]
pub(crate) struct LiveFile {
    pub(crate) meta: FileMeta,
    /// Whether damage was found in it. It is still read, block by block, and no merge takes it.
    pub(crate) quarantined: Cell<bool>,
}

impl LiveFile {
    pub(crate) fn new(meta: FileMeta) -> Rc<Self> {
        Rc::new(Self { meta, quarantined: Cell::new(false) })
    }

    pub(crate) fn id(&self) -> FileId {
        self.meta.id
    }
}

/// The live files, and how far they hold the log.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) manifest: Manifest,
    pub(crate) messages: Vec<Rc<LiveFile>>,
    pub(crate) inbox: Vec<Rc<LiveFile>>,
    /// Level 0 first.
    pub(crate) state: Vec<Vec<Rc<LiveFile>>>,
}

impl Version {
    /// The version of these files. `manifest` has the rest; its list of files is made from theirs.
    pub(crate) fn new(mut manifest: Manifest, files: Vec<Rc<LiveFile>>) -> Self {
        manifest.files = files.iter().map(|file| file.meta.clone()).collect();
        manifest.files.sort_unstable_by_key(|file| file.id);
        let (mut messages, mut inbox, mut state) = (Vec::new(), Vec::new(), vec![Vec::new()]);
        for file in files {
            match file.meta.properties.class {
                Class::Messages => messages.push(file),
                Class::Inbox => inbox.push(file),
                Class::State => {
                    let level = usize::from(file.meta.properties.level);
                    if state.len() <= level {
                        state.resize_with(level + 1, Vec::new);
                    }
                    state[level].push(file);
                }
            }
        }
        let newest_first = |file: &Rc<LiveFile>| {
            let properties = &file.meta.properties;
            core::cmp::Reverse((properties.window, properties.applied_high, file.id()))
        };
        messages.sort_by_key(newest_first);
        inbox.sort_by_key(newest_first);
        state[0].sort_by_key(newest_first);
        for level in &mut state[1..] {
            level.sort_by(|a, b| a.meta.properties.first_key.cmp(&b.meta.properties.first_key));
            for pair in level.windows(2) {
                let (one, next) = (&pair[0].meta.properties, &pair[1].meta.properties);
                assert!(one.last_key < next.first_key, "files of a level do not overlap");
            }
        }
        Self { manifest, messages, inbox, state }
    }

    /// Every file.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Rc<LiveFile>> {
        self.messages.iter().chain(&self.inbox).chain(self.state.iter().flatten())
    }

    /// Files of state rows that may have keys from `start` up to and without `end`, the one that decides first.
    pub(crate) fn state_files<'a>(&'a self, start: &'a [u8], end: &'a [u8]) -> impl Iterator<Item = &'a Rc<LiveFile>> {
        self.state.iter().enumerate().flat_map(move |(level, files)| {
            let from =
                if level == 0 { 0 } else { files.partition_point(|file| file.meta.properties.last_key[..] < *start) };
            let overlaps = move |file: &&Rc<LiveFile>| file.meta.properties.overlaps(start, end);
            let behind = move |file: &&Rc<LiveFile>| level == 0 || file.meta.properties.first_key[..] < *end;
            files[from..].iter().take_while(behind).filter(overlaps)
        })
    }
}

/// Two live files that cannot both be: a version of them would answer wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) older: FileId,
    pub(crate) newer: FileId,
    pub(crate) reason: &'static str,
}

/// The first conflict among files, which may come from outside; `None` where they make a version.
pub(crate) fn conflict(files: &[FileMeta]) -> Option<Conflict> {
    let of = |class: Class| files.iter().filter(move |file| file.properties.class == class);
    let found = |one: &FileMeta, other: &FileMeta, reason| {
        Some(Conflict { older: one.id.min(other.id), newer: one.id.max(other.id), reason })
    };
    let mut leveled: Vec<_> = of(Class::State).filter(|file| file.properties.level > 0).collect();
    leveled.sort_by_key(|file| (file.properties.level, &file.properties.first_key));
    for pair in leveled.windows(2) {
        let (one, next) = (&pair[0].properties, &pair[1].properties);
        if one.level == next.level && one.last_key >= next.first_key {
            return found(pair[0], pair[1], "state files of a level have keys in common");
        }
    }
    let mut ranged: Vec<_> = files.iter().filter(|file| is_ranged(file)).collect();
    ranged.sort_by_key(|file| {
        let properties = &file.properties;
        (properties.class, properties.window, properties.applied_low, properties.applied_high)
    });
    for pair in ranged.windows(2) {
        let (one, next) = (&pair[0].properties, &pair[1].properties);
        if (one.class, one.window) == (next.class, next.window) && one.applied_high >= next.applied_low {
            return found(pair[0], pair[1], "files of one order have log entries in common");
        }
    }
    None
}

/// Whether its place among others is by log entries: all but the lower levels of state.
fn is_ranged(file: &FileMeta) -> bool {
    file.properties.class != Class::State || file.properties.level == 0
}
