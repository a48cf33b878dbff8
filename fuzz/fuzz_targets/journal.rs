//! A journal segment as a disk may return it: any bytes have a verdict, with checksums wrong or right.

#![no_main]

use bytes::Bytes;
use columba_engine::{ids::SegmentId, journal::check_image};
use columba_fuzz::{BLOCK_BYTES, seal_journal};
use libfuzzer_sys::fuzz_target;

/// The generation of the seeds.
const GENERATION: SegmentId = SegmentId::new(1);

/// Batches found, if it is a segment at all.
fn check(image: &[u8]) -> Option<u32> {
    let (batches, _) = check_image(&Bytes::copy_from_slice(image), GENERATION).ok()?;
    let blocks = image.len() / BLOCK_BYTES;
    let found = usize::try_from(batches).expect("at least 32 bits");
    assert!(found < blocks, "{found} batches in {blocks} blocks, of which one is the header");
    Some(batches)
}

fuzz_target!(|input: &[u8]| {
    let batches = check(input);
    let mut sealed = input.to_vec();
    seal_journal(&mut sealed, GENERATION.get());
    let sealed_batches = check(&sealed);
    // Sealing makes torn batches whole, which may then be damage; what was whole it leaves alone.
    if let (Some(before), Some(after)) = (batches, sealed_batches) {
        assert!(before <= after, "sealing lost {before} - {after} batches: it looks at nothing");
    }
});
