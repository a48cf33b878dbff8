//! Random lives of a database: commands in commits of random size, with flushes and merges beside them, crashes,
//! restarts, failed writes and full disks between them.

use core::cell::{Cell, RefCell};

use super::model::{DAY_MS, Db, Layout, Model, Step, check, open, queue, recovered};
use crate::{
    env::{
        Rng,
        clock::ManualClock,
        executor::{Signal, Task, block_on, run_interleaved, yield_now},
        sim_disk::{Faults, SimDisk},
    },
    error::{Error, Result},
    seeds,
};

/// Commits of a life.
const COMMITS: usize = 60;

#[test]
fn a_database_answers_like_a_model_over_crashes_flushes_merges_and_faults() {
    seeds::for_each("a database", 0..60, run);
}

/// A merge could not write, the background ended with it, and the flush beside it was dropped: its partition counted as
/// being flushed for ever, and the next flush waited for that.
#[test]
fn a_flush_that_was_given_up_keeps_nobody_waiting() {
    run(1869);
}

struct Life {
    clock: ManualClock,
    disk: SimDisk,
    layout: Layout,
    commits_left: Cell<usize>,
    now_ms: Cell<u64>,
    /// What was confirmed.
    model: RefCell<Model>,
    /// What was queued since: of it, it may be there.
    under_way: RefCell<Vec<Step>>,
}

/// The life of a database, by a seed.
pub(super) fn run(seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let layout = Layout {
        partitions: 1 + u32::try_from(rng.below(3)).unwrap(),
        window_ms: [1000, DAY_MS / 4, DAY_MS][usize::try_from(rng.below(3)).unwrap()],
        segment_bytes: [64 << 10, 512 << 10][usize::try_from(rng.below(2)).unwrap()],
    };
    let mut life = Life {
        clock: ManualClock::default(),
        disk: SimDisk::new(seed),
        layout,
        commits_left: Cell::new(COMMITS),
        now_ms: Cell::new(100 * DAY_MS),
        model: RefCell::new(Model::new(layout)),
        under_way: RefCell::default(),
    };
    while life.commits_left.get() > 0 {
        life.once(&mut rng);
    }
    life.end(&mut rng);
}

impl Life {
    /// From one start to the next crash or restart.
    fn once(&mut self, rng: &mut Rng) {
        if rng.one_in(2) {
            self.disk.crash_at(self.disk.operations() + 1 + rng.below(300));
        }
        let db = RefCell::new(None);
        let all_ended = {
            let mut here = rng.fork();
            let life = &*self;
            let (opened, is_open) = (&db, &Signal::default());
            let main = async {
                let db = life.open().await;
                check(&db, &life.confirmed(), &mut here).await;
                opened.replace(Some(db.clone()));
                is_open.notify();
                if let Err(error) = life.go_on(&db, &mut here).await {
                    assert!(matches!(error, Error::Io { .. } | Error::JournalFailed), "{error}");
                }
                db.inner.closing.set(true);
                db.inner.changed.notify();
            };
            let background = async {
                is_open.changed(0).await;
                let db = opened.borrow().clone().expect("it is open");
                // It ends where a write fails; then so does the rest.
                let _ = db.run_background().await;
            };
            let tasks: Vec<Task<'_>> = vec![Box::pin(main), Box::pin(background)];
            run_interleaved(rng, tasks)
        };
        assert!(all_ended || self.disk.has_crashed(), "it waits for what never comes");
        drop(db);
        self.disk = self.disk.after_crash();
        self.disk.set_faults(Faults::default());
        self.disk.set_capacity(1 << 40);
        let under_way = core::mem::take(&mut *self.under_way.borrow_mut());
        let db = block_on(self.open());
        let model = recovered(&db, &self.model.borrow(), &under_way);
        block_on(check(&db, &model, rng));
        self.model.replace(model);
        drop(db);
    }

    fn confirmed(&self) -> Model {
        self.model.borrow().clone()
    }

    async fn open(&self) -> Db {
        open(&self.disk, &self.clock, self.layout).await.unwrap_or_else(|error| panic!("it does not open: {error}"))
    }

    /// Until a write fails, or it is time for a restart.
    async fn go_on(&self, db: &Db, rng: &mut Rng) -> Result<()> {
        while self.commits_left.get() > 0 {
            self.commits_left.set(self.commits_left.get() - 1);
            self.queue_some(db, rng);
            match rng.below(40) {
                0 => self.disk.set_faults(Faults { write_error: 20, sync_error: 20, ..Faults::default() }),
                1..4 => self.disk.set_capacity(self.disk.used() + rng.below(300_000)),
                _ => {}
            }
            self.commit(db, rng).await?;
            match rng.below(12) {
                0 => self.with_room(db.flush().await)?,
                1 => self.with_room(db.compact().await)?,
                2 => check(db, &self.confirmed(), rng).await,
                3 if rng.one_in(4) => return Ok(()),
                _ => {}
            }
        }
        self.disk.set_capacity(1 << 40);
        db.clone().close().await
    }

    fn queue_some(&self, db: &Db, rng: &mut Rng) {
        let jump = if rng.one_in(8) { DAY_MS } else { 400 };
        self.now_ms.set(self.now_ms.get() + rng.below(jump));
        for _ in 0..=rng.below(12) {
            let step = self.model.borrow_mut().random_step(rng, self.now_ms.get());
            queue(db, &self.clock, &step);
            self.under_way.borrow_mut().push(step);
        }
    }

    async fn commit(&self, db: &Db, rng: &mut Rng) -> Result<()> {
        let mut refusals = 0;
        while let Err(error) = db.commit().await {
            let Error::NoSpace { .. } = error else {
                return Err(error);
            };
            // Nothing is lost, and nothing that was not confirmed is seen. With room, and a background that has its
            // turns, it goes on.
            check(db, &self.confirmed(), rng).await;
            self.disk.set_capacity(1 << 40);
            db.inner.changed.notify();
            refusals += 1;
            assert!(refusals < 1000, "there is room, and it does not go on: {error}");
            yield_now().await;
        }
        let steps = core::mem::take(&mut *self.under_way.borrow_mut());
        self.model.borrow_mut().commit(&steps, |_| true);
        Ok(())
    }

    /// Background work that found no room changes nothing.
    fn with_room(&self, result: Result<()>) -> Result<()> {
        match result {
            Err(Error::NoSpace { .. }) => Ok(()),
            other => other,
        }
    }

    fn end(&mut self, rng: &mut Rng) {
        let model = self.confirmed();
        block_on(async {
            let db = self.open().await;
            check(&db, &model, rng).await;
            db.flush().await.unwrap();
            db.compact().await.unwrap();
            check(&db, &model, rng).await;
            for partition in db.partitions() {
                partition.verify().await.unwrap();
            }
            db.close().await.unwrap();
        });
    }
}
