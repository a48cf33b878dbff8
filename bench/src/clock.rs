//! (D) Monotonic time, and a ticker for open-loop load.
//!
//! The runtime's own timer has a grain of one millisecond, several times the latencies measured here; a timerfd has
//! none.

use std::{io, os::fd::OwnedFd};

use rustix::{
    thread::{ClockId as SleepClock, clock_nanosleep_absolute},
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
        timerfd_settime,
    },
};
use tokio::io::unix::AsyncFd;

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds of the monotonic clock; the same for every process of the machine.
pub(crate) fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).expect("the monotonic clock is not negative");
    let nanos = u64::try_from(time.tv_nsec).expect("a part of a second is not negative");
    seconds * SECOND_NS + nanos
}

fn timespec(ns: u64) -> Timespec {
    let signed = |value: u64| i64::try_from(value).expect("far below 292 years");
    Timespec { tv_sec: signed(ns / SECOND_NS), tv_nsec: signed(ns % SECOND_NS) }
}

/// Blocks the thread until `at_ns`.
pub(crate) fn sleep_until(at_ns: u64) {
    while now_ns() < at_ns {
        // An interruption only ends the wait early, and the loop goes on.
        let _ = clock_nanosleep_absolute(SleepClock::Monotonic, &timespec(at_ns));
    }
}

/// Fires at fixed times, whether or not anybody kept up with the last ones.
pub(crate) struct Ticker {
    timer: AsyncFd<OwnedFd>,
    next_ns: u64,
    interval_ns: u64,
}

impl Ticker {
    /// Fires first at `first_ns`, then every `interval_ns`. Must be made on the runtime that awaits it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(first_ns: u64, interval_ns: u64) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let times = Itimerspec { it_interval: timespec(interval_ns), it_value: timespec(first_ns) };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &times)?;
        #[expect(deprecated, reason = "the descriptor is owned, which is all that the unsafe replacement asks for")]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer, next_ns: first_ns, interval_ns })
    }

    /// Waits for the next time: it, and how many there are by now (1 where nothing was missed). May be cancelled.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) async fn tick(&mut self) -> io::Result<(u64, u64)> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut count = [0; 8];
            match rustix::io::read(ready.get_inner(), &mut count) {
                Ok(_) => {
                    let (first, count) = (self.next_ns, u64::from_ne_bytes(count));
                    self.next_ns += count * self.interval_ns;
                    return Ok((first, count));
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
