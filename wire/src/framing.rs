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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::decode_client,
        v1::{ClientFrame, Ping, Send, client_frame::Kind},
    };

    fn stream() -> (Vec<ClientFrame>, BytesMut) {
        let send = Send {
            client_seq: 9,
            to_user: Bytes::from_static(&[2; 16]),
            body: Bytes::from_static(&[5; 300]),
            ..Send::default()
        };
        let frames = vec![
            ClientFrame { request_id: 1, kind: Some(Kind::Ping(Ping {})) },
            ClientFrame { request_id: 2, kind: Some(Kind::Send(send)) },
            ClientFrame { request_id: 3, kind: Some(Kind::Ping(Ping {})) },
        ];
        let mut bytes = BytesMut::new();
        for frame in &frames {
            encode_framed(frame, &mut bytes);
        }
        (frames, bytes)
    }

    fn drain(deframer: &mut Deframer, out: &mut Vec<ClientFrame>) {
        while let Some(frame) = deframer.next_frame().unwrap() {
            out.push(decode_client(frame).unwrap());
        }
    }

    #[test]
    fn frames_come_out_whole_wherever_the_network_cuts() {
        let (frames, bytes) = stream();
        for first in 0..=bytes.len() {
            for second in (first..=bytes.len()).step_by(7) {
                let mut deframer = Deframer::new(1024);
                let mut out = Vec::new();
                for chunk in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    deframer.push(chunk);
                    drain(&mut deframer, &mut out);
                }
                assert_eq!(out, frames, "cut at {first} and {second}");
                assert!(!deframer.is_partial());
            }
        }
    }

    #[test]
    fn an_oversized_prefix_is_refused_before_anything_is_reserved() {
        let mut deframer = Deframer::new(1024);
        deframer.push(&1025u32.to_be_bytes());
        assert!(matches!(deframer.next_frame(), Err(FrameError::TooLarge { bytes: 1025 })));

        let mut deframer = Deframer::new(1024);
        deframer.push(&u32::MAX.to_be_bytes());
        assert!(matches!(deframer.next_frame(), Err(FrameError::TooLarge { .. })));
        assert!(deframer.buffer.capacity() < 1024, "{} bytes reserved", deframer.buffer.capacity());
    }

    #[test]
    fn an_announced_frame_reserves_nothing_until_its_bytes_come() {
        let mut deframer = Deframer::new(1 << 30);
        deframer.push(&(1u32 << 30).to_be_bytes());
        assert!(deframer.next_frame().unwrap().is_none());
        assert!(deframer.is_partial());
        assert!(deframer.buffer.capacity() < 1024, "{} bytes reserved", deframer.buffer.capacity());
    }

    #[test]
    fn the_bound_grows_with_login() {
        let mut deframer = Deframer::new(8);
        deframer.push(&9u32.to_be_bytes());
        assert!(deframer.next_frame().is_err());
        deframer.set_frame_bytes_max(9);
        assert!(deframer.next_frame().unwrap().is_none());
        deframer.push(&[0; 9]);
        assert_eq!(deframer.next_frame().unwrap().unwrap().len(), 9);
    }
}
