//! Whole nodes on virtual time: crashes, faults and bit rot, and the checkers that must notice planted bugs.

#[cfg(feature = "planted-bugs")]
mod planted;
mod promises;
