//! (D) `UringDisk`: durable writes and reads through io_uring, past the page cache; names and appends through a
//! [`ThreadDisk`], so that the core never blocks.
//!
//! A durable write is one operation with `RWF_DSYNC`. Completions are drained by the core's own loop: by every poll
//! of a waiting future, and by the [`UringDriver`] task, which gives way and looks again for [`SPIN`] after a
//! submission and then sleeps on an eventfd.
//!
//! Invariants
//! - An operation owns its buffer and keeps its file open until its completion has arrived: dropping a future detaches.
//! - At most [`RING_ENTRIES`] operations are in flight; others wait in order.

use core::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use io_uring::{IoUring, opcode, types::Fd};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    AlignedBuf, DirEntry, Disk, DiskFile,
    blocking::{BlockingDisk, Handle, io_error, write_error},
    thread_disk::{ThreadDisk, ThreadFile},
};
use crate::error::{Error, Result};

/// Operations in flight at a time, per core.
pub const RING_ENTRIES: u32 = 256;
/// How long the driver looks for a completion before it sleeps.
pub const SPIN: Duration = Duration::from_micros(20);

/// A disk served by io_uring. Clones share the ring; it belongs to the thread that made it.
#[derive(Clone)]
pub struct UringDisk {
    names: ThreadDisk,
    ring: Rc<Ring>,
}

/// A file on it.
#[derive(Clone)]
pub struct UringFile {
    file: ThreadFile,
    ring: Rc<Ring>,
}

struct Ring {
    uring: RefCell<IoUring>,
    operations: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    in_flight: Cell<usize>,
    /// Whether the submission queue holds what the kernel did not take.
    unsubmitted: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
    driver: Cell<Option<Waker>>,
}

#[derive(Default)]
struct Slot {
    operation: Option<Operation>,
}

struct Operation {
    buf: AlignedBuf,
    _file: Arc<Handle>,
    waker: Option<Waker>,
    result: Option<i32>,
    detached: bool,
}

impl UringDisk {
    /// Sets up a ring for this thread, and the driver that is to be polled beside everything else on it.
    ///
    /// # Errors
    /// `Io` where the system forbids io_uring.
    pub fn new() -> Result<(Self, UringDriver)> {
        let failed = |operation, source| Error::Io { operation, path: Path::new("io_uring").to_owned(), source };
        let quick =
            IoUring::builder().setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().build(RING_ENTRIES);
        let uring = match quick {
            Ok(uring) => uring,
            // Kernels before 6.0 know io_uring without these flags.
            Err(_) => IoUring::new(RING_ENTRIES).map_err(|error| failed("set up", error))?,
        };
        let eventfd =
            rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC)
                .map_err(|error| failed("make an eventfd for", error.into()))?;
        uring
            .submitter()
            .register_eventfd(eventfd.as_raw_fd())
            .map_err(|error| failed("register the eventfd with", error))?;
        let ring = Rc::new(Ring {
            uring: RefCell::new(uring),
            operations: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            in_flight: Cell::new(0),
            unsubmitted: Cell::new(false),
            waiting: RefCell::new(VecDeque::new()),
            driver: Cell::new(None),
        });
        let disk = Self { names: ThreadDisk::new()?, ring: Rc::clone(&ring) };
        let spin =
            if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1) { SPIN } else { Duration::ZERO };
        Ok((disk, UringDriver { ring, eventfd, spin }))
    }

    fn file(&self, file: ThreadFile) -> UringFile {
        UringFile { file, ring: Rc::clone(&self.ring) }
    }
}

/// What an operation does.
#[derive(Clone, Copy)]
enum Kind {
    WriteDurable,
    Read,
}

impl Ring {
    /// Runs one operation over `buf[start..]`; gives the buffer back with what the kernel returned.
    async fn operate(
        self: &Rc<Self>,
        kind: Kind,
        file: &Arc<Handle>,
        offset: u64,
        buf: AlignedBuf,
        start: usize,
    ) -> (io::Result<usize>, AlignedBuf) {
        poll_fn(|cx| {
            self.drain();
            if self.in_flight.get() < RING_ENTRIES as usize {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
        match self.submit(kind, file, offset, buf, start) {
            Ok(slot) => Completion { ring: Rc::clone(self), slot, done: false }.await,
            Err((error, buf)) => (Err(error), buf),
        }
    }

    #[expect(unsafe_code, reason = "the kernel reads and writes the operation's buffer")]
    fn submit(
        &self,
        kind: Kind,
        file: &Arc<Handle>,
        offset: u64,
        mut buf: AlignedBuf,
        start: usize,
    ) -> core::result::Result<usize, (io::Error, AlignedBuf)> {
        let bytes = u32::try_from(buf.len() - start).expect("operations are far below 4 GiB");
        let fd = Fd(file.direct.as_raw_fd());
        let memory = buf.as_mut_ptr().wrapping_add(start);
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut operations = self.operations.borrow_mut();
            operations.push(Slot::default());
            operations.len() - 1
        });
        let entry = match kind {
            Kind::WriteDurable => {
                opcode::Write::new(fd, memory, bytes).offset(offset).rw_flags(libc::RWF_DSYNC).build()
            }
            Kind::Read => opcode::Read::new(fd, memory, bytes).offset(offset).build(),
        };
        let entry = entry.user_data(slot as u64);
        let mut uring = self.uring.borrow_mut();
        // SAFETY: the buffer and the open file live in the slot until the completion arrives, whatever becomes of the
        // future; `memory..memory + bytes` lies inside the buffer, and nobody else touches it meanwhile.
        let pushed = unsafe { uring.submission().push(&entry) };
        if pushed.is_err() {
            self.free.borrow_mut().push(slot);
            return Err((io::Error::other("the submission queue is full"), buf));
        }
        let operation = Operation { buf, _file: Arc::clone(file), waker: None, result: None, detached: false };
        self.operations.borrow_mut()[slot].operation = Some(operation);
        self.in_flight.set(self.in_flight.get() + 1);
        // What submit cannot take now stays in the queue; whoever drains tries again.
        self.unsubmitted.set(uring.submit().is_err());
        drop(uring);
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
        Ok(slot)
    }

    /// Takes the completions that have arrived. Returns how many.
    fn drain(&self) -> usize {
        let mut taken = 0;
        if self.in_flight.get() == 0 {
            return 0;
        }
        // A completion that is ready waits for this thread to enter the kernel: a busy one would not before the next
        // tick, which is milliseconds away.
        let is_due = self.unsubmitted.get() || self.uring.borrow_mut().submission().taskrun();
        if is_due {
            self.unsubmitted.set(self.uring.borrow_mut().submit().is_err());
        }
        loop {
            let next = self.uring.borrow_mut().completion().next();
            let Some(completion) = next else {
                break;
            };
            taken += 1;
            let slot = usize::try_from(completion.user_data()).expect("slots are small numbers");
            let mut operations = self.operations.borrow_mut();
            let operation = operations[slot].operation.as_mut().expect("a completion has its operation");
            operation.result = Some(completion.result());
            if let Some(waker) = operation.waker.take() {
                waker.wake();
            }
            if operation.detached {
                operations[slot].operation = None;
                self.free.borrow_mut().push(slot);
            }
            self.in_flight.set(self.in_flight.get() - 1);
            if let Some(waker) = self.waiting.borrow_mut().pop_front() {
                waker.wake();
            }
        }
        taken
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still write into buffers of detached operations: they are waited for before they are freed.
        while self.in_flight.get() > 0 {
            if self.uring.borrow_mut().submit_and_wait(1).is_err() {
                // Leaked rather than freed under the kernel's hands.
                core::mem::forget(core::mem::take(&mut *self.operations.borrow_mut()));
                return;
            }
            self.drain();
        }
    }
}

/// Waits for one operation.
struct Completion {
    ring: Rc<Ring>,
    slot: usize,
    done: bool,
}

impl Future for Completion {
    type Output = (io::Result<usize>, AlignedBuf);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.ring.drain();
        let ring = Rc::clone(&self.ring);
        let mut operations = ring.operations.borrow_mut();
        let operation = operations[self.slot].operation.as_mut().expect("it stays until it is taken here");
        let Some(result) = operation.result else {
            operation.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let operation = operations[self.slot].operation.take().expect("it has just been looked at");
        ring.free.borrow_mut().push(self.slot);
        self.done = true;
        let result = match usize::try_from(result) {
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        Poll::Ready((result, operation.buf))
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut operations = self.ring.operations.borrow_mut();
        let slot = &mut operations[self.slot];
        match &mut slot.operation {
            Some(operation) if operation.result.is_none() => {
                operation.detached = true;
                operation.waker = None;
            }
            _ => {
                slot.operation = None;
                self.ring.free.borrow_mut().push(self.slot);
            }
        }
    }
}

/// Drains completions while nobody else does. To be run as a task of the core's runtime.
pub struct UringDriver {
    ring: Rc<Ring>,
    eventfd: OwnedFd,
    spin: Duration,
}

impl UringDriver {
    /// Runs for as long as the core does.
    ///
    /// # Errors
    /// `Io` where the reactor does not take the eventfd.
    #[expect(clippy::disallowed_methods, reason = "a driver: it measures how long it has looked")]
    #[expect(unsafe_code, reason = "the reactor must be told that the descriptor stays open")]
    pub async fn run(self) -> Result<()> {
        let failed = |source| Error::Io { operation: "wait for", path: Path::new("io_uring").to_owned(), source };
        // SAFETY: `self` owns the descriptor and outlives the registration; it stays open and the same throughout.
        let registered = unsafe { AsyncFd::register_with_interest(self.eventfd.as_fd(), Interest::READABLE) };
        let eventfd = registered.map_err(|error| failed(error.into()))?;
        loop {
            poll_fn(|cx| {
                if self.ring.in_flight.get() > 0 {
                    return Poll::Ready(());
                }
                self.ring.driver.set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            let began = std::time::Instant::now();
            while began.elapsed() < self.spin && self.ring.in_flight.get() > 0 {
                if self.ring.drain() == 0 {
                    tokio::task::yield_now().await;
                }
            }
            while self.ring.in_flight.get() > 0 {
                if self.ring.unsubmitted.get() {
                    // Nothing would complete, and so nothing would wake this task.
                    self.ring.drain();
                    tokio::task::yield_now().await;
                    continue;
                }
                let mut ready = eventfd.readable().await.map_err(failed)?;
                let mut count = [0; 8];
                // Empty: the completion was drained by a poll, and its count by an earlier wake-up.
                let _ = rustix::io::read(&self.eventfd, &mut count);
                ready.clear_ready();
                self.ring.drain();
            }
        }
    }
}

impl Disk for UringDisk {
    type File = UringFile;
    type Aside = BlockingDisk;

    async fn aside<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(BlockingDisk) -> T + Send + 'static,
    ) -> Result<T> {
        self.names.aside(name, work).await
    }

    async fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.names.create_dir_all(path).await
    }

    async fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.names.list(dir).await
    }

    async fn create_zeroed(&self, path: &Path, len: u64) -> Result<UringFile> {
        Ok(self.file(self.names.create_zeroed(path, len).await?))
    }

    async fn create(&self, path: &Path) -> Result<UringFile> {
        Ok(self.file(self.names.create(path).await?))
    }

    async fn open(&self, path: &Path) -> Result<UringFile> {
        Ok(self.file(self.names.open(path).await?))
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.names.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        self.names.remove(path).await
    }

    fn drain(&self) {
        self.ring.drain();
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.names.sync_dir(dir).await
    }
}

impl DiskFile for UringFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    async fn write_durable(&self, offset: u64, buf: AlignedBuf) -> (Result<()>, AlignedBuf) {
        assert!(offset + buf.len() as u64 <= self.len(), "a durable write lies inside the file");
        let handle = &self.file.handle;
        let (mut buf, mut done) = (buf, 0);
        while done < buf.len() {
            let (result, back) = self.ring.operate(Kind::WriteDurable, handle, offset + done as u64, buf, done).await;
            buf = back;
            match result {
                Ok(0) => return (Err(write_error(handle.path(), io::ErrorKind::WriteZero.into())), buf),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(write_error(handle.path(), error)), buf),
            }
        }
        (Ok(()), buf)
    }

    async fn append(&self, bytes: Vec<u8>) -> Result<()> {
        self.file.append(bytes).await
    }

    async fn sync(&self) -> Result<()> {
        self.file.sync().await
    }

    async fn read(&self, offset: u64, len: usize) -> Result<AlignedBuf> {
        let handle = &self.file.handle;
        let (mut buf, mut done) = (AlignedBuf::zeroed(len), 0);
        while done < len {
            let (result, back) = self.ring.operate(Kind::Read, handle, offset + done as u64, buf, done).await;
            buf = back;
            match result {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("read", handle.path(), error)),
            }
            if !done.is_multiple_of(crate::limits::BLOCK_BYTES) {
                break;
            }
        }
        Ok(buf)
    }
}
