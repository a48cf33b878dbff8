//! Background work beside the messages: where it runs, and how it gives way.
//!
//! | work | where |
//! |---|---|
//! | flush, merge, freeing of memtables | beside the core, on a thread of lower priority ([`crate::env::Disk::aside`]) |
//! | scrub, sweeps, snapshots | on the core, in slices |
//!
//! Both call [`Slice::checkpoint`] after each block. On the core a [`Pacer`] ends a slice after [`SLICE_IDLE`] where
//! nothing else has happened of late, and after [`SLICE_BUSY`] where the core serves clients; between two slices every
//! other task of the core has had some turns. Beside the core the kernel shares out the processor, and a checkpoint is
//! only where work ends that nobody waits for any more.
//!
//! Invariants
//! - A future holds the core for one slice and one block at most.
//! - A writer has one append in flight, a reader one read ahead: bytes in flight are bounded by their constants.

use core::{
    cell::{Cell, RefCell},
    time::Duration,
};
use std::rc::Rc;

use crate::env::{Clock, Instant, executor::yield_now};

/// The longest slice: where the core has nothing else to do.
pub const SLICE_IDLE: Duration = Duration::from_micros(500);
/// A slice while the core serves clients.
pub const SLICE_BUSY: Duration = Duration::from_micros(50);
/// For how long the core counts as busy after it served somebody.
const BUSY_FOR: Duration = Duration::from_millis(1);
/// Checkpoints in a slice, however fast they are: also what ends a slice where time stands still.
const CHECKPOINTS_MAX: u32 = 64;
/// Turns that others get between two slices.
const TURNS: u32 = 4;
/// Checkpoints between two places where work beside the core gives way.
const CHECKPOINTS_ASIDE: u32 = 16;

/// What background work on the core took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacerStats {
    /// Slices.
    pub slices: u64,
    /// Time in slices, nanoseconds.
    pub busy_ns: u64,
    /// The longest one, nanoseconds.
    pub longest_ns: u64,
}

/// Paces the background work of a core. Clones share it.
#[derive(Clone)]
pub struct Pacer {
    inner: Rc<Inner>,
}

struct Inner {
    now: Box<dyn Fn() -> Instant>,
    served: Cell<Option<Instant>>,
    stats: RefCell<PacerStats>,
    drain: RefCell<Option<Box<dyn Fn()>>>,
}

/// One background task's place in its slice.
pub struct Slice {
    /// None beside the core.
    paced: Option<(Pacer, Instant)>,
    checkpoints: u32,
}

impl Pacer {
    /// A pacer by this clock.
    pub fn new(clock: impl Clock) -> Self {
        let inner = Inner {
            now: Box::new(move || clock.now()),
            served: Cell::default(),
            stats: RefCell::default(),
            drain: RefCell::default(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Says what to call at each checkpoint, so that who waits for the disk is woken although the thread is busy:
    /// [`crate::env::Disk::drain`].
    pub fn drain_with(&self, drain: impl Fn() + 'static) {
        *self.inner.drain.borrow_mut() = Some(Box::new(drain));
    }

    /// Says that the core serves clients now.
    pub fn note_served(&self) {
        self.inner.served.set(Some((self.inner.now)()));
    }

    /// What background work took so far.
    pub fn stats(&self) -> PacerStats {
        *self.inner.stats.borrow()
    }

    /// Begins a task's first slice.
    pub fn slice(&self) -> Slice {
        Slice { paced: Some((self.clone(), (self.inner.now)())), checkpoints: 0 }
    }

    fn slice_length(&self, now: Instant) -> Duration {
        let busy = self.inner.served.get().is_some_and(|served| now.saturating_since(served) < BUSY_FOR);
        if busy { SLICE_BUSY } else { SLICE_IDLE }
    }
}

impl Slice {
    /// For work beside the core.
    pub fn aside() -> Self {
        Self { paced: None, checkpoints: 0 }
    }

    /// Gives way where the slice is over. To be called after each block of work.
    pub async fn checkpoint(&mut self) {
        self.checkpoints += 1;
        let Some((pacer, started)) = &self.paced else {
            if self.checkpoints >= CHECKPOINTS_ASIDE {
                self.checkpoints = 0;
                yield_now().await;
            }
            return;
        };
        let inner = &pacer.inner;
        if let Some(drain) = &*inner.drain.borrow() {
            drain();
        }
        let now = (inner.now)();
        if self.checkpoints < CHECKPOINTS_MAX && now.saturating_since(*started) < pacer.slice_length(now) {
            return;
        }
        self.close(now);
        for _ in 0..TURNS {
            yield_now().await;
        }
        self.restart();
    }

    /// Begins anew after a wait, which was not this task's time.
    pub fn restart(&mut self) {
        if let Some((pacer, started)) = &mut self.paced {
            *started = (pacer.inner.now)();
        }
        self.checkpoints = 0;
    }

    /// Ends a slice before a wait.
    pub fn pause(&mut self) {
        if let Some((pacer, _)) = &self.paced {
            self.close((pacer.inner.now)());
        }
    }

    fn close(&mut self, now: Instant) {
        let Some((pacer, started)) = &mut self.paced else {
            return;
        };
        let took = u64::try_from(now.saturating_since(*started).as_nanos()).unwrap_or(u64::MAX);
        let mut stats = pacer.inner.stats.borrow_mut();
        stats.slices += 1;
        stats.busy_ns += took;
        stats.longest_ns = stats.longest_ns.max(took);
        *started = now;
    }
}

#[cfg(test)]
mod tests {
    use core::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::env::clock::{ManualClock, WallTime};

    fn polls_until_done(clock: &ManualClock, pacer: &Pacer, per_block: Duration, blocks: u32) -> u32 {
        let mut work = pin!(async {
            let mut slice = pacer.slice();
            for _ in 0..blocks {
                clock.advance(per_block);
                slice.checkpoint().await;
            }
        });
        let mut polls = 1;
        while work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            polls += 1;
        }
        polls
    }

    #[test]
    fn work_gives_way_after_each_slice_and_more_often_beside_clients() {
        let clock = ManualClock::new(WallTime::default());
        let pacer = Pacer::new(clock.clone());
        let block = Duration::from_micros(25);
        assert_eq!(polls_until_done(&clock, &pacer, block, 40), 9, "1 ms of work is two slices of 500 us");
        assert_eq!(pacer.stats().longest_ns, 500_000);
        pacer.note_served();
        assert_eq!(polls_until_done(&clock, &pacer, block, 20), 41, "0.5 ms of work beside clients is ten slices");
    }

    #[test]
    fn work_gives_way_where_time_stands_still() {
        let clock = ManualClock::new(WallTime::default());
        let pacer = Pacer::new(clock.clone());
        assert_eq!(polls_until_done(&clock, &pacer, Duration::ZERO, 640), 41);
    }
}
