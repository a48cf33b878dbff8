//! The node from outside: real `columba` processes on loopback, real clients, real signals and disks.
//!
//! | module | what it holds |
//! |---|---|
//! | [`node`] | a node as a process: start, signals, log, metrics |
//! | [`link`], [`raw`] | a client of its own, which can also break every rule |
//! | [`phone`] | a person with the SDK who writes down everything that was sent and came |
//! | [`pair`] | two people who chat undisturbed while something else happens to their node |
//! | `kill`, `restart`, `full_disk`, `shutdown` | what was promised survives |
//! | `strangers`, `frames`, `logins`, `slow`, `crowd` | bad input: its sender loses the connection, and nobody else anything |
//! | `catch_up`, `sessions`, `registration`, `devices`, `retention`, `people`, `keys`, `groups`, `chats`, `deletion`, `signals`, `rates`, `storm` | what a client may rely on |
//! | `pages`, `config`, `disk`, `space` | what an operator may rely on |
//!
//! Nothing here waits for a fixed time where there is something to look at; every wait has an end; a failed test shows
//! the end of its node's log. Seeds are printed.
#![expect(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests on 64-bit machines with real files and a real clock, which print what they measured"
)]

mod authorisation;
mod catch_up;
mod chats;
mod config;
mod crowd;
mod deletion;
mod devices;
mod disk;
mod frames;
mod full_disk;
mod groups;
mod http;
mod keys;
mod kill;
mod link;
mod logins;
mod middlebox;
mod node;
mod pages;
mod pair;
mod people;
mod phone;
mod poll;
mod rates;
mod raw;
mod registration;
mod restart;
mod retention;
mod roster;
mod sessions;
mod shutdown;
mod signals;
mod slow;
mod space;
mod storm;
mod strangers;
