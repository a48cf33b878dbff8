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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Deliver, Send, client_frame, server_frame};

    /// A `Send` as it stands in the buffer it was received in.
    fn received() -> (Bytes, ClientFrame) {
        let send = Send {
            client_seq: 1,
            to_user: Bytes::from_static(&[1; 16]),
            body: Bytes::from_static(&[9; 4096]),
            ..Send::default()
        };
        let frame = ClientFrame { request_id: 1, kind: Some(client_frame::Kind::Send(send)) };
        (encode(&frame), frame)
    }

    #[test]
    fn a_body_is_a_slice_of_the_received_buffer() {
        let (buffer, sent) = received();
        let inside = buffer.as_ptr_range();
        let frame = decode_client(buffer.clone()).unwrap();
        assert_eq!(frame, sent);
        let Some(client_frame::Kind::Send(send)) = frame.kind else { panic!("a send came back as something else") };
        let body = send.body.as_ptr_range();
        assert!(inside.contains(&body.start) && body.end <= inside.end, "the body was copied");

        let deliver = Deliver { body: send.body, ..Deliver::default() };
        let buffer = encode(&ServerFrame { request_id: 0, kind: Some(server_frame::Kind::Deliver(deliver)) });
        let inside = buffer.as_ptr_range();
        let frame = decode_server(buffer.clone()).unwrap();
        let Some(server_frame::Kind::Deliver(deliver)) = frame.kind else { panic!("a delivery came back as another") };
        assert!(inside.contains(&deliver.body.as_ptr_range().start), "the body was copied");
    }

    #[test]
    fn a_truncated_frame_is_an_error_at_each_length() {
        let (buffer, sent) = received();
        for bytes in 0..buffer.len() {
            // A prefix that ends between two fields is valid protobuf, but never the same frame.
            if let Ok(frame) = decode_client(buffer.slice(..bytes)) {
                assert_ne!(frame, sent, "{bytes} bytes");
            }
        }
    }

    #[test]
    fn too_large_and_empty_frames_are_refused() {
        let buffer = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
        assert!(matches!(decode_client(buffer.clone()), Err(FrameError::TooLarge { .. })));
        assert!(matches!(decode_server(buffer), Err(FrameError::TooLarge { .. })));
        assert!(matches!(decode_client(Bytes::new()), Err(FrameError::NoKind)));
        assert!(matches!(decode_server(Bytes::from_static(&[8, 1])), Err(FrameError::NoKind)));
    }

    #[test]
    fn a_kind_of_a_newer_server_is_ignored_not_malformed() {
        // Field 500, length-delimited, empty.
        let newer = Bytes::from_static(&[0xa2, 0x1f, 0x00]);
        assert!(matches!(decode_server(newer), Err(FrameError::NoKind)));
    }
}
