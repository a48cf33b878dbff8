//! Length-prefixed frames on a QUIC stream: `[len u32 big-endian][frame]`, incremental and bounded.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::frame::{FrameError, encode_into};

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;

/// Cuts a byte stream into frames.
///
/// Holds at most one frame and what arrived behind it in the same chunk; a prefix beyond `frame_bytes_max` is an error
/// before anything is reserved for it.
#[derive(Debug)]
pub struct Deframer {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl Deframer {
    /// A deframer that refuses frames over `frame_bytes_max`.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// Changes the bound, as after a login.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Takes received bytes. Call [`Self::next_frame`] until it is empty before giving it more.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// `TooLarge` where the prefix announces more than allowed; the stream cannot go on.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*prefix) as usize;
        if bytes > self.frame_bytes_max {
            return Err(FrameError::TooLarge { bytes });
        }
        if self.buffer.len() < PREFIX_BYTES + bytes {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }

    /// Whether a frame has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// Appends a frame with its prefix to `out`.
pub fn encode_framed(frame: &impl prost::Message, out: &mut BytesMut) {
    let bytes = u32::try_from(frame.encoded_len()).expect("frames are far below 4 GiB");
    out.put_u32(bytes);
    encode_into(frame, out);
}
