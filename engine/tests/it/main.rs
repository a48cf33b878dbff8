//! What a user of the engine may rely on, measured from outside, in blocks and bytes and never in time.
//!
//! | module | what it shows |
//! |---|---|
//! | `inbox` | an inbox is a queue: what a read costs does not grow with what went through it |
//! | `window` | what is past its retention goes without being read or written again |

mod inbox;
mod window;
