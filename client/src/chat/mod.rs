//! `columba chat`: a terminal client in lines, for people and for scripts.
//!
//! | module | what it holds |
//! |---|---|
//! | `args` | what the command line says; where the profile is |
//! | `command` | a typed line, understood |
//! | `view` | what the user sees and asks for: pure, lines and requests out |
//! | `people` | names, presence, what is unread |
//! | `ticks` | own messages: stored, delivered, read |
//! | `words` | what messages say, in words |
//! | `text` | text that is safe to print; times |
//! | `qr` | QR codes in lines |
//! | `run` (D) | client, standard input and output around the view |
//! | `input` (D) | lines of standard input, bounded |
//! | `output` (D) | lines of standard output, in colour where that is wanted |
//!
//! One event is one line: `14:03 bob: hello` is a message of the person one writes to, `14:03 [carol] hello` one of
//! somebody else, `#12 stored` or `#12-#15 read` the way of own messages; `* ` begins a notice, `! ` what went wrong.
//! A reaction, an edit and a deletion are lines too when they come, as `14:03 bob reacts to message 7 with 👍`; what was
//! there before is printed as it stands.
//!
//! Invariants
//! - What others wrote is printed without control characters and without marks that change the direction of text.
//! - A line that was not taken for sending is said to be so; one that was taken is in the profile.
//! - Lines are carried out in order: one that follows `/with` waits until it is known who that is, and nothing is sent
//!   to the one before where it fails.

mod args;
mod command;
mod groups;
mod input;
mod output;
mod people;
mod qr;
mod run;
mod text;
mod ticks;
mod view;
mod words;

pub use args::ChatArgs;
pub use run::run;
