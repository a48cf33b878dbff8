//! Protocol versions and capabilities, and how both sides agree.

/// Versions this crate speaks, newest first.
pub const VERSIONS: &[u32] = &[1];

/// What waited for the device comes on a stream of its own. For QUIC.
pub const CATCH_UP_STREAM: u64 = 1;

/// Optional features, as bits. Unknown bits are ignored.
pub const CAPABILITIES: u64 = CATCH_UP_STREAM;

/// The highest version that both sides speak.
pub fn negotiate(offered: &[u32]) -> Option<u32> {
    VERSIONS.iter().copied().find(|version| offered.contains(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_wins() {
        assert_eq!(negotiate(&[7, 1, 3]), Some(1));
        assert_eq!(negotiate(&[2, 3]), None);
        assert_eq!(negotiate(&[]), None);
    }
}
