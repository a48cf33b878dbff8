//! Time as a value: [`Instant`] (monotonic) and wall time, both from a [`Clock`].

use core::{ops, time::Duration};

/// Monotonic time, nanoseconds since the clock's own start. Only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's start.
    pub const START: Self = Self(0);

    /// From nanoseconds since the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if that is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds since 1970, by the wall clock. For people; nothing is ordered by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// From milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

/// The time of a node.
pub trait Clock: Clone + 'static {
    /// Monotonic time.
    fn now(&self) -> Instant;
    /// Wall time.
    fn wall(&self) -> WallTime;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Starts counting now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others are told to use")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that the others are told to use")]
    fn wall(&self) -> WallTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands until it is set: for tests and simulations. Clones share the time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now: std::rc::Rc<core::cell::Cell<(u64, u64)>>,
}

impl ManualClock {
    /// Starts at monotonic 0 and the given wall time.
    pub fn new(wall: WallTime) -> Self {
        Self { now: std::rc::Rc::new(core::cell::Cell::new((0, wall.0))) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let (nanos, millis) = self.now.get();
        let later = Instant(nanos) + by;
        self.now.set((later.0, millis + later.0 / 1_000_000 - nanos / 1_000_000));
    }

    /// Makes the wall clock jump; monotonic time stands.
    pub fn set_wall(&self, wall: WallTime) {
        self.now.set((self.now.get().0, wall.0));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.now.get().0)
    }

    fn wall(&self) -> WallTime {
        WallTime(self.now.get().1)
    }
}
