//! Frames: decode and encode. Bodies are slices of the received buffer: no copy.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::{
    limits::FRAME_BYTES_MAX,
    v1::{ClientFrame, ServerFrame},
};

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("frame of {bytes} bytes; at most {FRAME_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not protobuf of this schema.
    #[error("not a frame: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// No known kind is set: an empty frame, or one of a newer version.
    #[error("frame without a known kind")]
    NoKind,
}

fn check_len(bytes: usize) -> Result<(), FrameError> {
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes });
    }
    Ok(())
}

/// Decodes a frame from a client. `bytes` fields of the result are slices of `buffer`.
///
/// # Errors
/// `TooLarge`, `Malformed` or `NoKind`; the connection cannot go on after the first two.
pub fn decode_client(buffer: Bytes) -> Result<ClientFrame, FrameError> {
    check_len(buffer.len())?;
    let frame = ClientFrame::decode(buffer)?;
    if frame.kind.is_none() {
        return Err(FrameError::NoKind);
    }
    Ok(frame)
}

/// Decodes a frame from a server. `bytes` fields of the result are slices of `buffer`.
///
/// # Errors
/// As [`decode_client`]. A client ignores `NoKind`: a newer server said something it need not understand.
pub fn decode_server(buffer: Bytes) -> Result<ServerFrame, FrameError> {
    check_len(buffer.len())?;
    let frame = ServerFrame::decode(buffer)?;
    if frame.kind.is_none() {
        return Err(FrameError::NoKind);
    }
    Ok(frame)
}

/// Encodes a frame of either kind at the end of `out`.
pub fn encode_into(frame: &impl prost::Message, out: &mut BytesMut) {
    out.reserve(frame.encoded_len());
    frame.encode(out).expect("the room for it was reserved");
}

/// Encodes a frame of either kind into a buffer of its own.
pub fn encode(frame: &impl prost::Message) -> Bytes {
    let mut out = BytesMut::new();
    encode_into(frame, &mut out);
    out.freeze()
}
