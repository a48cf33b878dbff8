//! Bytes of connections, as their clients see them, for each message.
//!
//! | what | WebSocket | QUIC |
//! |---|---|---|
//! | frames | frames with WebSocket headers | frames with length prefixes |
//! | socket | bytes given to and taken from TCP, TLS included | UDP payload of all packets |
//! | loopback | all packets of the machine's loopback interface, both ways and both devices, IP headers included | the same |

use serde::{Deserialize, Serialize};

use crate::{report::number, socket::Loopback};

/// Bytes of one device.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// Frames to the server.
    pub(crate) frames_up: f64,
    /// Frames from it.
    pub(crate) frames_down: f64,
    /// The same below.
    pub(crate) socket_up: f64,
    /// The same below.
    pub(crate) socket_down: f64,
}

impl Traffic {
    /// Out of counts.
    pub(crate) fn new([frames_up, frames_down, socket_up, socket_down]: [u64; 4]) -> Self {
        Self {
            frames_up: number(frames_up),
            frames_down: number(frames_down),
            socket_up: number(socket_up),
            socket_down: number(socket_down),
        }
    }

    fn map(&self, other: &Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            frames_up: with(self.frames_up, other.frames_up),
            frames_down: with(self.frames_down, other.frames_down),
            socket_up: with(self.socket_up, other.socket_up),
            socket_down: with(self.socket_down, other.socket_down),
        }
    }

    /// What came on top of `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        self.map(before, |now, then| now - then)
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.map(other, |one, two| one + two)
    }

    /// For each of `count`.
    pub(crate) fn per(&self, count: f64) -> Self {
        self.map(self, |total, _| total / count)
    }

    /// Of frames, both ways.
    pub(crate) fn frames(&self) -> f64 {
        self.frames_up + self.frames_down
    }

    /// Below frames, both ways.
    pub(crate) fn socket(&self) -> f64 {
        self.socket_up + self.socket_down
    }
}

/// Bytes for each message.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Wire {
    /// Of who sends.
    pub(crate) sender: Traffic,
    /// Of who gets it.
    pub(crate) recipient: Traffic,
    /// Of both, on the interface. It counts for the whole machine, or network namespace.
    pub(crate) loopback_bytes: f64,
    /// Packets there.
    pub(crate) loopback_packets: f64,
}

impl Wire {
    /// Frames of both, both ways.
    pub(crate) fn frames(&self) -> f64 {
        self.sender.frames() + self.recipient.frames()
    }

    /// Takes over what went over the interface between two looks.
    pub(crate) fn set_loopback(&mut self, before: Loopback, after: Loopback, messages: f64) {
        self.loopback_bytes = number(after.bytes - before.bytes) / messages;
        self.loopback_packets = number(after.packets - before.packets) / messages;
    }
}
