//! Polls futures without a runtime: for tests, tools and the simulator. Real nodes run on their drivers' reactor.

use core::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

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
