//! Who may connect: bounds by node and by address, and by core of those who are not logged in and of those who poll.
//!
//! Invariants
//! - A [`Permit`] is counted until it is dropped.
//! - A core never has more than its share of connections that are not logged in. A new one displaces the oldest of
//!   them, rather than being refused itself: somebody who logs in at once always gets through, even while thousands
//!   of connections that never will are being opened.

use core::{
    cell::{Cell, RefCell},
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Poll, Waker},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::rate::address_key;

/// Bounds of [`Admission`].
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections of the node.
    pub total_max: usize,
    /// Connections of one address, or of one /64.
    pub per_address_max: usize,
    /// Connections from loopback.
    pub loopback_max: usize,
}

/// Counts the connections of a node; shared by its cores. The lock is taken twice in a connection's life.
#[derive(Debug)]
pub struct Admission {
    limits: ConnectionLimits,
    total: AtomicUsize,
    by_address: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Admission {
    /// No connections yet.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, total: AtomicUsize::new(0), by_address: Mutex::default() })
    }

    /// Counts a connection from `address`; `None` where a bound is met.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let key = address_key(address);
        let max = if key.is_loopback() { self.limits.loopback_max } else { self.limits.per_address_max };
        let mut by_address = self.by_address();
        if self.total.load(Ordering::Relaxed) >= self.limits.total_max {
            return None;
        }
        let count = by_address.get(&key).copied().unwrap_or_default();
        if count >= max {
            return None;
        }
        by_address.insert(key, count + 1);
        self.total.fetch_add(1, Ordering::Relaxed);
        Some(Permit { admission: Arc::clone(self), key })
    }

    /// Connections now.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn by_address(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.by_address.lock().expect("no thread panics while it counts")
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    key: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut by_address = self.admission.by_address();
        if let Some(count) = by_address.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.key);
            }
        }
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts what a core has a bound of its own for.
#[derive(Debug)]
pub struct Places {
    taken: Rc<Cell<usize>>,
    max: usize,
}

impl Places {
    /// Room for `max`.
    pub fn new(max: usize) -> Self {
        Self { taken: Rc::default(), max }
    }

    /// Takes a place; `None` where there is none.
    pub fn take(&self) -> Option<Place> {
        if self.taken.get() >= self.max {
            return None;
        }
        self.taken.set(self.taken.get() + 1);
        Some(Place { taken: Rc::clone(&self.taken) })
    }
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub struct Place {
    taken: Rc<Cell<usize>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.set(self.taken.get() - 1);
    }
}

/// The connections of one core that are not logged in, oldest first.
#[derive(Debug)]
pub struct Lobby {
    waiting: RefCell<BTreeMap<u64, Rc<Seat>>>,
    next: Cell<u64>,
    max: usize,
}

#[derive(Debug, Default)]
struct Seat {
    is_displaced: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Lobby {
    /// Room for `max` connections.
    pub fn new(max: usize) -> Rc<Self> {
        assert!(max > 0, "somebody must be able to log in");
        Rc::new(Self { waiting: RefCell::default(), next: Cell::new(0), max })
    }

    /// A new connection takes a place. Returns whether the oldest had to make way for it.
    pub fn enter(self: &Rc<Self>) -> (LobbyTicket, bool) {
        let mut waiting = self.waiting.borrow_mut();
        let oldest = if waiting.len() >= self.max { waiting.pop_first() } else { None };
        let number = self.next.get();
        self.next.set(number + 1);
        let seat = Rc::new(Seat::default());
        waiting.insert(number, Rc::clone(&seat));
        drop(waiting);
        if let Some((_, oldest)) = &oldest {
            oldest.is_displaced.set(true);
            if let Some(waker) = oldest.waker.take() {
                waker.wake();
            }
        }
        (LobbyTicket { lobby: Rc::clone(self), number, seat }, oldest.is_some())
    }

    /// Connections that are not logged in.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Whether all are logged in.
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }
}

/// A connection's place in the lobby.
#[derive(Debug)]
pub struct LobbyTicket {
    lobby: Rc<Lobby>,
    number: u64,
    seat: Rc<Seat>,
}

impl LobbyTicket {
    /// The connection is logged in: it is not displaced any more.
    pub fn leave(&self) {
        self.lobby.waiting.borrow_mut().remove(&self.number);
    }

    /// Resolves when the connection must make way.
    pub async fn displaced(&self) {
        poll_fn(|cx| {
            if self.seat.is_displaced.get() {
                return Poll::Ready(());
            }
            *self.seat.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for LobbyTicket {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use core::{pin::pin, task::Context};

    use super::*;

    fn is_displaced(ticket: &LobbyTicket) -> bool {
        pin!(ticket.displaced()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn an_address_cannot_take_the_connections_of_all() {
        let limits = ConnectionLimits { total_max: 5, per_address_max: 2, loopback_max: 3 };
        let admission = Admission::new(limits);
        let admit = |address: &str| admission.admit(address.parse().unwrap());
        let first = admit("192.0.2.1").unwrap();
        let _second = admit("192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_none());
        let _local: Vec<_> = (0..3).map(|_| admit("127.0.0.1").unwrap()).collect();
        assert!(admit("192.0.2.2").is_none(), "the node is full");
        drop(first);
        let _other = admit("192.0.2.2").unwrap();
        assert_eq!(admission.total(), 5);
        drop((_second, _local, _other));
        assert_eq!((admission.total(), admission.by_address().len()), (0, 0));
    }

    #[test]
    fn a_place_is_taken_until_it_is_given_back() {
        let places = Places::new(2);
        let (first, _second) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
    }

    #[test]
    fn connections_that_never_log_in_make_way_oldest_first() {
        let lobby = Lobby::new(2);
        let (first, _) = lobby.enter();
        let (second, _) = lobby.enter();
        first.leave();
        let (third, displaced) = lobby.enter();
        assert!(!displaced && !is_displaced(&second));
        let (fourth, displaced) = lobby.enter();
        assert!(displaced && is_displaced(&second));
        assert!(!is_displaced(&first) && !is_displaced(&third) && !is_displaced(&fourth));
        drop((first, second, third, fourth));
        assert!(lobby.is_empty());
    }
}
