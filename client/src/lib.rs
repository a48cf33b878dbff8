//! The Columba client: a small SDK, and `columba chat` on top of it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`Client`], [`Events`] | what an application calls, and what it hears; `devices` has what is about devices |
//! | [`options`] | server, transport, trust, profile |
//! | [`types`] | messages and what they say, receipts, presence, events |
//! | [`error`], [`limits`] | what can go wrong; every bound |
//! | `session` | the session over all its connections: pure, no sockets, clock or files |
//! | `driver` (D) | tokio, TLS, QUIC and WebSocket around it |
//! | `store` (D) | the profile on disk |
//! | [`chat`] (D) | the terminal client |
//!
//! # Getting started
//!
//! ```no_run
//! use columba_client::{Client, Event, Options, options::Profile};
//!
//! # async fn example() -> Result<(), columba_client::Error> {
//! let mut options = Options::new("127.0.0.1:7443");
//! options.profile = Profile::Directory("ada".into());
//! let (client, mut events) = Client::connect(options).await?;
//! client.register("ada", "").await?; // The next time this is the account there is.
//!
//! let bob = client.find_user("bob").await?;
//! let sent = client.send(bob, "hello").await?;
//! println!("message {} of chat {}", sent.seq, sent.chat);
//!
//! while let Some(event) = events.next().await {
//!     if let Event::Message(message) = event {
//!         println!("{}: {}", message.sender, String::from_utf8_lossy(&message.body));
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Take events in a task of their own, or with `tokio::select!`: a message that is not taken is not acknowledged, and
//! the server holds back at 1024 of them.
//!
//! # What it promises
//!
//! - A message that [`Client::send`] or [`Client::queue`] took is stored at most once, whatever is lost or restarted;
//!   messages are sent in order. With a profile on disk what was queued survives the process.
//! - Every message for this device comes as an event, in order within its chat, and once; after a crash between
//!   [`Events::next`] and the acknowledgement it comes once more. A gap would be told ([`Event::Gap`]).
//! - What is lost is the connection, never the session: it reconnects with back-off and resumes.
//!
//! # What messages say
//!
//! A body is bytes. What clients have agreed on to put there is [`types::MessageBody`]: [`Client::send_content`] sends
//! it, [`types::Message::content`] reads it and plain text alike, and a [`types::Timeline`] tells what a chat shows
//! once its edits, deletions and reactions are applied.
//!
//! There is no encryption between people yet: the server can read what it stores.

#![forbid(unsafe_code)]

pub mod chat;
mod client;
mod devices;
mod driver;
pub mod error;
pub mod limits;
pub mod options;
mod session;
mod store;
pub mod types;

pub use client::{Client, Events};
pub use columba_wire::{ChatId, ClientSeq, Code, DeviceId, MessageSeq, PreKeyId, UserId, link::LinkCode};
pub use error::{Error, Result};
pub use options::Options;
pub use types::Event;
