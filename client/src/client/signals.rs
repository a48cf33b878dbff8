//! Calls about signals: typing, and the steps of calls.

use columba_wire::limits::SIGNAL_BYTES_MAX;

use super::Client;
use crate::{
    driver::Ask,
    error::{Error, Result},
    types::{Recipient, SignalBody, SignalTo},
};

impl Client {
    /// Sends a signal while there is a session, and never later. That it was passed on does not say that anybody was
    /// there: whoever needs to know waits for a signal that answers.
    ///
    /// # Errors
    /// `Offline`: it was not sent, or the connection broke before the answer. `Refused` with `UNKNOWN_CHAT` where the
    /// two have never written to each other or the group is not this user's, `UNKNOWN_USER` for who is not in it,
    /// `NOT_ALLOWED` for a block or a role, `TOO_MANY` for all of a group of more than 99, `RATE_LIMITED`.
    /// `InvalidOption` beyond 16 KiB, `TooManyRequests`, `TimedOut`, `NotRegistered`.
    pub async fn signal(&self, to: impl Into<SignalTo>, body: SignalBody) -> Result<()> {
        let body = body.to_bytes();
        if body.len() > SIGNAL_BYTES_MAX {
            return Err(Error::InvalidOption(format!("a signal has at most {SIGNAL_BYTES_MAX} bytes")));
        }
        self.done_by(Ask::Signal(to.into().to_frame(body))).await
    }

    /// The user writes, or stops doing so. Call it with each key: what is sent is one signal in 3 s at most. Nothing is
    /// sent while there is no session, and nobody hears whether it was passed on. A message of this client ends it.
    ///
    /// # Errors
    /// `NotRegistered`, `Closed`.
    pub async fn set_typing(&self, to: impl Into<Recipient>, on: bool) -> Result<()> {
        self.done_by(Ask::Typing { to: to.into(), on }).await
    }
}
