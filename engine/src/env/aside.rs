//! (D) Long work beside a core, on a thread of its own: flushes and merges.
//!
//! A core that merged files itself would keep commits waiting, however short its slices are: a commit needs the
//! processor several times, and waits for a slice each time. The kernel does better: the thread has a lower priority
//! ([`NICE`]), runs on whatever processor is free, and gives way where none is. What it produces is installed by the
//! core.
//!
//! Invariants
//! - When the future is dropped the work has ended: it is told to, gives way at its next block, and is waited for.

use core::convert::Infallible;
use std::{path::PathBuf, thread::JoinHandle};

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::blocking::BlockingDisk;
use crate::error::{Error, Result};

/// Niceness of the threads: where no processor is free they get about a quarter of one that a core keeps busy, which is
/// what flushes and merges of that core take.
const NICE: i32 = 5;

/// Work under way. Ends it when dropped.
struct Running {
    wanted: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.wanted.take());
        if let Some(thread) = self.thread.take() {
            // It has no way to panic that does not end the process.
            let _ = thread.join();
        }
    }
}

/// Runs work on a thread of its own, and waits for its outcome: see [`super::Disk::aside`].
pub(super) async fn run<T: Send + 'static>(
    name: &'static str,
    work: impl AsyncFnOnce(BlockingDisk) -> T + Send + 'static,
) -> Result<T> {
    let failed = |source| Error::Io { operation: "start a thread for", path: PathBuf::from(name), source };
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed)?;
    let (wanted, unwanted) = oneshot::channel::<Infallible>();
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // As before where it is forbidden: the work is the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        let outcome = runtime.block_on(async {
            match select(Box::pin(work(BlockingDisk)), unwanted).await {
                Either::Left((outcome, _)) => Some(outcome),
                Either::Right(_) => None,
            }
        });
        // What the work owned is dropped by now.
        if let Some(outcome) = outcome {
            let _ = answer.send(outcome);
        }
    });
    let mut running = Running { wanted: Some(wanted), thread: Some(thread.map_err(failed)?) };
    let outcome = answered.await.expect("work that is wanted ends with an outcome");
    // There is nothing left to wait for.
    running.thread = None;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU32, Ordering};
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::env::executor::yield_now;

    #[tokio::test(flavor = "current_thread")]
    async fn work_runs_elsewhere_and_its_outcome_comes_back() {
        let here = std::thread::current().id();
        let there = run("aside", async |_| std::thread::current().id()).await.unwrap();
        assert_ne!(here, there);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn dropped_work_has_ended() {
        let steps = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&steps);
        let mut endless = Box::pin(run("aside", async move |_| {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        }));
        assert!(endless.as_mut().now_or_never().is_none_or(|never: Result<()>| never.is_err()));
        while steps.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(endless);
        assert_eq!(Arc::strong_count(&steps), 1, "the work and all it owned are gone");
    }
}
