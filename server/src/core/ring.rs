//! (D) A bounded ring from one core to another: `rtrb`'s queue, and our wake-up.
//!
//! ```text
//!   sender                                   receiver
//!   push                                     pop: nothing
//!   fence                                    store its waker, sleeping = true
//!   sleeping? take it, wake                  fence
//!                                            pop again: nothing -> Pending
//! ```
//!
//! The same, mirrored, for a sender that waits for room. While both sides are busy nobody sleeps, and a message costs
//! a push, a fence and a load; the wake-up (a write to the other reactor's eventfd) is paid only by the first message
//! after a pause. There is no spinning before the sleep: it pays only where every core has a CPU to itself, and costs
//! the others theirs where not.
//!
//! Invariants
//! - Messages arrive in the order they were sent, each once; what is in the ring when one side is dropped is dropped.
//! - Either the sleeper's second look sees the push, or the pusher sees the flag: the two fences are in one total
//!   order, so a message is never left in the ring with its receiver asleep.
//! - A ring never holds more than its capacity: a sender waits.

use core::{
    sync::atomic::{AtomicBool, Ordering, fence},
    task::{Context, Poll},
};
use std::sync::Arc;

use futures_util::task::AtomicWaker;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// Where one side sleeps.
#[derive(Debug, Default)]
struct Bed {
    is_sleeping: AtomicBool,
    waker: AtomicWaker,
}

impl Bed {
    /// Before the second look.
    fn lie_down(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
        self.is_sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn get_up(&self) {
        self.is_sleeping.store(false, Ordering::Relaxed);
    }

    /// After the ring was changed by the other side.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.is_sleeping.load(Ordering::Relaxed) && self.is_sleeping.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}

#[derive(Debug, Default)]
struct Beds {
    receiver: Bed,
    sender: Bed,
}

/// The sending end; one thread has it.
#[derive(Debug)]
pub struct RingSender<T> {
    queue: Producer<T>,
    beds: SenderBeds,
}

/// The receiving end; one thread has it.
#[derive(Debug)]
pub struct RingReceiver<T> {
    queue: Consumer<T>,
    beds: ReceiverBeds,
}

/// Wakes the receiver when the sender goes. A field behind the queue, because fields are dropped in order: whoever is
/// woken finds the queue abandoned.
#[derive(Debug)]
struct SenderBeds(Arc<Beds>);

/// The same for the other side.
#[derive(Debug)]
struct ReceiverBeds(Arc<Beds>);

impl Drop for SenderBeds {
    fn drop(&mut self) {
        self.0.receiver.waker.wake();
    }
}

impl Drop for ReceiverBeds {
    fn drop(&mut self) {
        self.0.sender.waker.wake();
    }
}

/// A ring for `capacity` messages.
pub fn ring<T: Send>(capacity: usize) -> (RingSender<T>, RingReceiver<T>) {
    assert!(capacity > 0, "a ring holds something");
    let (producer, consumer) = RingBuffer::new(capacity);
    let beds = Arc::new(Beds::default());
    (
        RingSender { queue: producer, beds: SenderBeds(Arc::clone(&beds)) },
        RingReceiver { queue: consumer, beds: ReceiverBeds(beds) },
    )
}

impl<T: Send> RingSender<T> {
    /// Sends, or gives the message back where the ring is full.
    ///
    /// # Errors
    /// The message: there is no room now.
    pub fn try_send(&mut self, message: T) -> Result<(), T> {
        match self.queue.push(message) {
            Ok(()) => {
                self.beds.0.receiver.wake();
                Ok(())
            }
            Err(PushError::Full(message)) => Err(message),
        }
    }

    /// Waits for room for one message. `Ready` also when the receiver is gone: what is sent then is dropped.
    pub fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        self.beds.0.sender.lie_down(cx);
        if self.has_room() {
            self.beds.0.sender.get_up();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Sends, waiting for room.
    pub async fn send(&mut self, message: T) {
        core::future::poll_fn(|cx| self.poll_ready(cx)).await;
        // Full only where the receiver is gone.
        let _ = self.try_send(message);
    }

    fn has_room(&self) -> bool {
        !self.queue.is_full() || self.queue.is_abandoned()
    }
}

impl<T: Send> RingReceiver<T> {
    /// The next message; `None` when the sender is gone and the ring is empty.
    pub fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        if let Some(message) = self.try_recv() {
            return Poll::Ready(Some(message));
        }
        self.beds.0.receiver.lie_down(cx);
        let is_over = self.queue.is_abandoned();
        // Looked at after that, and not reordered: what was pushed before the sender went is still received.
        fence(Ordering::Acquire);
        match self.try_recv() {
            Some(message) => {
                self.beds.0.receiver.get_up();
                Poll::Ready(Some(message))
            }
            None if is_over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// The next message, if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        let message = self.queue.pop().ok()?;
        self.beds.0.sender.wake();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use core::{future::poll_fn, pin::pin, task::Waker};
    use std::thread;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn a_full_ring_gives_the_message_back() {
        let (mut sender, mut receiver) = ring(2);
        assert_eq!((sender.try_send(1), sender.try_send(2), sender.try_send(3)), (Ok(()), Ok(()), Err(3)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(sender.send(3)).as_mut().poll(&mut cx).is_pending());
        assert_eq!(receiver.try_recv(), Some(1));
        assert_eq!(sender.poll_ready(&cx), Poll::Ready(()));
    }

    #[test]
    fn every_message_arrives_in_order_while_both_sides_sleep_and_wake() {
        for (capacity, count) in [(1, 20_000), (2, 20_000), (64, 200_000)] {
            let (mut to, mut from) = ring::<u64>(capacity);
            let (mut back, mut answers) = ring::<u64>(capacity);
            let echo = thread::spawn(move || {
                block_on(async {
                    while let Some(number) = poll_fn(|cx| from.poll_recv(cx)).await {
                        back.send(number).await;
                    }
                });
            });
            let sending = thread::spawn(move || {
                block_on(async {
                    for number in 0..count {
                        to.send(number).await;
                        if number % 1_000 == 0 {
                            // Let everybody fall asleep now and then.
                            thread::sleep(std::time::Duration::from_micros(200));
                        }
                    }
                });
            });
            block_on(async {
                for number in 0..count {
                    assert_eq!(poll_fn(|cx| answers.poll_recv(cx)).await, Some(number));
                }
                assert_eq!(poll_fn(|cx| answers.poll_recv(cx)).await, None);
            });
            sending.join().unwrap();
            echo.join().unwrap();
        }
    }

    #[test]
    fn a_sender_does_not_wait_for_a_receiver_that_is_gone() {
        let (mut sender, receiver) = ring(1);
        sender.try_send(1).unwrap();
        let waiting = thread::spawn(move || block_on(async { sender.send(2).await }));
        thread::sleep(std::time::Duration::from_millis(20));
        drop(receiver);
        waiting.join().unwrap();
    }
}
