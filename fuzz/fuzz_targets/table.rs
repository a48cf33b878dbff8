//! A table file as a disk may return it: any bytes are a table or damage, and a table with one flipped bit is damage.

#![no_main]

use bytes::Bytes;
use columba_engine::table::check_image;
use columba_fuzz::seal_table;
use libfuzzer_sys::fuzz_target;

fn check(image: &[u8], flip: usize) {
    if check_image(&Bytes::copy_from_slice(image)).is_ok() {
        let mut damaged = image.to_vec();
        let at = flip % (image.len() * 8);
        damaged[at / 8] ^= 1 << (at % 8);
        assert!(check_image(&Bytes::from(damaged)).is_err(), "bit {at} was flipped, and nobody noticed");
    }
}

fuzz_target!(|input: &[u8]| {
    // Which bit, follows from the input.
    let flip = input.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    check(input, flip);
    let mut sealed = input.to_vec();
    seal_table(&mut sealed);
    check(&sealed, flip);
    if check_image(&Bytes::copy_from_slice(input)).is_ok() {
        assert_eq!(sealed, input, "sealing changes what was whole: it looks at nothing");
    }
});
