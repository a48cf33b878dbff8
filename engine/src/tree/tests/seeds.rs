//! Random lives of a tree: flushes beside merges beside readers, views that are kept, crashes, restarts, failed writes,
//! full disks, and flipped bits at the end.

use core::cell::RefCell;
use std::rc::Rc;

use super::model::{Below, Harm, Model, check, dir, flush, is_table, meta, open, settle};
use crate::{
    env::{
        Rng,
        executor::{Task, block_on, run_interleaved},
        sim_disk::{Faults, SimDisk},
    },
    error::{Error, Result},
    seeds,
    tree::{Tree, View},
};

/// Flushes of a life.
const FLUSHES: u64 = 24;
/// Views that are kept at a time.
const VIEWS_MAX: usize = 3;

#[test]
fn a_tree_answers_like_maps_over_flushes_merges_crashes_and_faults() {
    seeds::for_each("a tree", 0..60, run);
}

/// The life of a tree, by a seed.
pub(super) fn run(seed: u64) {
    let mut life = Life {
        rng: Rng::from_seed(seed),
        disk: SimDisk::new(seed),
        models: vec![Rc::new(Model::default())],
        below: Below::default(),
        now_ms: 1000,
        views: Vec::new(),
    };
    let mut tree = block_on(open(&life.disk)).unwrap();
    while life.models.len() as u64 <= FLUSHES {
        tree = life.round(tree);
    }
    life.end(&tree);
}

/// Reads in every way, now and then: each time the version of that moment, whatever happens beside it.
async fn read_on(tree: &Tree<SimDisk>, models: &[Rc<Model>], below: Below, mut rng: Rng) {
    for _ in 0..2 {
        let view = tree.view();
        let model = &models[usize::try_from(view.meta().applied.get()).unwrap()];
        check(&view, model, below, &mut rng, Harm::None).await;
    }
}

fn tolerate(result: Result<()>, trouble: Trouble) {
    match (result, trouble) {
        (Ok(()), _)
        | (Err(Error::NoSpace { .. }), Trouble::FullDisk)
        | (Err(Error::Io { .. }), Trouble::FailedWrites) => {}
        (Err(error), _) => panic!("{error}"),
    }
}

struct Life {
    rng: Rng,
    disk: SimDisk,
    /// By applied index: what the files hold then.
    models: Vec<Rc<Model>>,
    below: Below,
    now_ms: u64,
    views: Vec<(View<SimDisk>, Rc<Model>, Below)>,
}

/// What goes wrong in a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Crash,
    FailedWrites,
    FullDisk,
}

impl Life {
    /// A flush, with a merge and readers beside it.
    fn round(&mut self, tree: Tree<SimDisk>) -> Tree<SimDisk> {
        let done = self.models.len() as u64 - 1;
        assert_eq!(tree.meta().applied.get(), done, "the files hold what was flushed");
        self.move_on();
        let rows = self.models[self.models.len() - 1].next_rows(&mut self.rng, self.now_ms, self.below.inbox_head);
        let mut next = (*self.models[self.models.len() - 1]).clone();
        next.apply(&rows);
        self.models.push(Rc::new(next));
        let trouble = self.begin_trouble();
        let flushed = RefCell::new(None);
        let all_ended = {
            let (below, models) = (self.below, &self.models);
            let mut tasks: Vec<Task<'_>> =
                vec![Box::pin(async { *flushed.borrow_mut() = Some(flush(&tree, &rows, done + 1).await) })];
            if self.rng.one_in(2) {
                tasks.push(Box::pin(async { tolerate(settle(&tree, &below, |_| {}).await, trouble) }));
            }
            for _ in 0..self.rng.below(3) {
                tasks.push(Box::pin(read_on(&tree, models, below, self.rng.fork())));
            }
            run_interleaved(&mut self.rng, tasks)
        };
        self.disk.set_faults(Faults::default());
        self.disk.set_capacity(1 << 40);
        if !all_ended {
            assert!(self.disk.has_crashed(), "it waits for what never comes");
            return self.restart();
        }
        self.disk.crash_at(u64::MAX);
        if let Err(error) = flushed.into_inner().expect("the flush has ended") {
            tolerate(Err(error), trouble);
            assert_eq!(tree.meta().applied.get(), done, "a failed flush changes nothing");
            if self.rng.one_in(2) {
                return self.restart();
            }
            let model = Rc::clone(&self.models[self.models.len() - 2]);
            block_on(check(&tree.view(), &model, self.below, &mut self.rng, Harm::None));
            block_on(flush(&tree, &rows, done + 1)).unwrap();
        }
        assert_eq!(tree.meta(), meta(done + 1));
        self.read(&tree);
        if self.rng.one_in(6) { self.restart() } else { tree }
    }

    fn move_on(&mut self) {
        self.now_ms += self.rng.below(60);
        if self.rng.one_in(8) {
            self.below.inbox_head += 1;
        }
        if self.rng.one_in(8) {
            self.below.dead_before_ms = self.below.dead_before_ms.max(self.now_ms.saturating_sub(300));
        }
    }

    fn begin_trouble(&mut self) -> Trouble {
        match self.rng.below(10) {
            0 | 1 => {
                self.disk.crash_at(self.disk.operations() + 1 + self.rng.below(120));
                Trouble::Crash
            }
            2 => {
                let faults = Faults { write_error: 15, sync_error: 15, ..Faults::default() };
                self.disk.set_faults(faults);
                Trouble::FailedWrites
            }
            3 => {
                self.disk.set_capacity(self.disk.used() + self.rng.below(200_000));
                Trouble::FullDisk
            }
            _ => Trouble::None,
        }
    }

    /// Every read, of now and of the views that are kept.
    fn read(&mut self, tree: &Tree<SimDisk>) {
        let model = Rc::clone(&self.models[usize::try_from(tree.meta().applied.get()).unwrap()]);
        block_on(check(&tree.view(), &model, self.below, &mut self.rng, Harm::None));
        for (view, then, below) in &self.views {
            block_on(check(view, then, *below, &mut self.rng, Harm::None));
        }
        if self.rng.one_in(4) && !self.views.is_empty() {
            self.views.remove(0);
            block_on(tree.collect_garbage()).unwrap();
        }
        if self.rng.one_in(4) && self.views.len() < VIEWS_MAX {
            self.views.push((tree.view(), model, self.below));
        }
    }

    /// As after a crash: what was not durable may be lost, and the flush under way may have happened or not.
    fn restart(&mut self) -> Tree<SimDisk> {
        self.views.clear();
        self.disk = self.disk.after_crash();
        let tree = block_on(open(&self.disk)).unwrap_or_else(|error| panic!("after a crash: {error}"));
        let applied = usize::try_from(tree.meta().applied.get()).unwrap();
        let newest = self.models.len() - 1;
        assert!(applied == newest || applied + 1 == newest, "{applied} after {newest}");
        self.models.truncate(applied + 1);
        self.read(&tree);
        let tables = self.disk.files().iter().filter(|(path, _)| is_table(path)).count();
        assert_eq!(tables, tree.stats().files, "what no manifest names is removed");
        tree
    }

    fn end(&mut self, tree: &Tree<SimDisk>) {
        self.disk.crash_at(u64::MAX);
        block_on(settle(tree, &self.below, |_| {})).unwrap();
        self.read(tree);
        block_on(tree.verify()).unwrap();
        self.views.clear();
        let tree = self.restart();
        assert_eq!(self.models.len() as u64 - 1, FLUSHES, "what was flushed stays");
        drop(tree);
        for _ in 0..4 {
            self.flip_a_bit();
        }
    }

    /// A read of damaged files is right, or says so; so is one after merges went around the damage.
    fn flip_a_bit(&mut self) {
        let disk = self.disk.snapshot();
        let tables: Vec<_> = disk.files().into_iter().filter(|(path, _)| is_table(path)).collect();
        if tables.is_empty() {
            return;
        }
        let (path, bytes) = &tables[usize::try_from(self.rng.below(tables.len() as u64)).unwrap()];
        assert!(disk.flip_bit(path, self.rng.below(*bytes), u8::try_from(self.rng.below(8)).unwrap()));
        let (model, below) = (Rc::clone(&self.models[self.models.len() - 1]), self.below);
        block_on(async {
            let tree = open(&disk).await.unwrap();
            check(&tree.view(), &model, below, &mut self.rng, Harm::Damage).await;
            assert!(tree.verify().await.is_err_and(|error| error.is_damage()), "a flipped bit in {}", path.display());
            let (mut model, applied) = ((*model).clone(), tree.meta().applied.get());
            for n in 1..=5 {
                let rows = model.next_rows(&mut self.rng, self.now_ms, below.inbox_head);
                model.apply(&rows);
                flush(&tree, &rows, applied + n).await.unwrap();
                // A merge that meets the damage says so; the next plan goes around the file.
                let settled = settle(&tree, &below, |_| {}).await;
                assert!(settled.is_ok() || settled.is_err_and(|error| error.is_damage()));
            }
            check(&tree.view(), &model, below, &mut self.rng, Harm::Damage).await;
        });
        let manifest = dir().join("manifest");
        let disk = self.disk.snapshot();
        let bytes = disk.files().into_iter().find(|(path, _)| *path == manifest).expect("there is one").1;
        assert!(disk.flip_bit(&manifest, self.rng.below(bytes), u8::try_from(self.rng.below(8)).unwrap()));
        assert!(block_on(open(&disk)).is_err(), "a flipped bit in the manifest");
    }
}
