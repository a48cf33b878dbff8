//! Polls futures without a runtime: for tests, tools and the simulator. Real nodes run on their drivers' reactor.

use core::{
    cell::{Cell, RefCell},
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use super::Rng;

/// A waker that remembers that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Polls to the end. For futures over simulated or blocking disks, which never wait for a reactor.
///
/// # Panics
/// If the future waits and nothing wakes it: on a crashed [`super::sim_disk::SimDisk`], use [`run_until_stalled`].
pub fn block_on<F: Future>(future: F) -> F::Output {
    run_until_stalled(pin!(future)).expect("nothing will wake this future: did its disk crash?")
}

/// Polls for as long as something wakes the future. `None` where it waits for what never comes.
pub fn run_until_stalled<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if !flag.0.swap(false, Ordering::AcqRel) {
            return None;
        }
    }
}

/// A future among those of [`run_interleaved`].
pub type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Polls futures to their ends, each time one at random of those that were woken: one order of events that a core may
/// see. False where some wait for what never comes.
pub fn run_interleaved(rng: &mut Rng, mut tasks: Vec<Task<'_>>) -> bool {
    let mut flags: Vec<_> = tasks.iter().map(|_| Arc::new(Flag(AtomicBool::new(true)))).collect();
    while !tasks.is_empty() {
        let woken: Vec<_> = (0..tasks.len()).filter(|n| flags[*n].0.load(Ordering::Acquire)).collect();
        if woken.is_empty() {
            return false;
        }
        let n = woken[usize::try_from(rng.below(woken.len() as u64)).expect("an index")];
        flags[n].0.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&flags[n]));
        if tasks[n].as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(tasks.swap_remove(n));
            flags.swap_remove(n);
        }
    }
    true
}

/// Gives way once: background work calls it between slices.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|cx| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// One at a time, in order of asking: for steps of one core that wait in their middle.
#[derive(Default)]
pub struct Turn {
    taken: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// Holds a turn until it is dropped.
pub struct TurnGuard<'a>(&'a Turn);

impl Turn {
    /// Waits until nobody else has it.
    pub async fn take(&self) -> TurnGuard<'_> {
        core::future::poll_fn(|cx| {
            if self.taken.replace(true) {
                self.waiting.borrow_mut().push_back(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        TurnGuard(self)
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        // All of them: one that was dropped meanwhile would not pass its turn on. They are few.
        for waker in self.0.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

/// Tells those who wait that something has changed.
#[derive(Default)]
pub struct Signal {
    changes: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Wakes everybody who waits.
    pub fn notify(&self) {
        self.changes.set(self.changes.get() + 1);
        for waker in self.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// How many changes there were. To be asked before looking at what may have changed.
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Waits until there were more changes than `seen`.
    pub async fn changed(&self, seen: u64) {
        core::future::poll_fn(|cx| {
            if self.changes.get() > seen {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
