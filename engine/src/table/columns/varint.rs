//! Numbers in 7 bits a byte, lowest first, the high bit on all but the last byte; differences with the sign lowest.
//!
//! Differences wrap around: every pair of `u64` has one, and adding it gives the second number back.

use super::super::Damage;

/// Bytes of a number at most.
pub(super) const VARINT_BYTES_MAX: usize = 10;

pub(in crate::table) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Writes `number` by how far it is from `before`.
pub(super) fn put_difference(out: &mut Vec<u8>, before: u64, number: u64) {
    let difference = number.wrapping_sub(before);
    put_varint(out, (difference << 1) ^ (difference >> 63).wrapping_neg());
}

/// Takes fields off the front of the columns.
pub(in crate::table) struct Columns<'a> {
    rest: &'a [u8],
}

impl<'a> Columns<'a> {
    pub(in crate::table) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(in crate::table) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (array, rest) = self.rest.split_first_chunk().ok_or("its columns end early")?;
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    pub(in crate::table) fn varint(&mut self) -> Result<u64, Damage> {
        let (first, rest) = self.rest.split_first().ok_or("its columns end early")?;
        if *first < 0x80 {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for (n, byte) in self.rest.iter().enumerate().take(VARINT_BYTES_MAX) {
            let bits = u64::from(byte & 0x7f) << (7 * n);
            if n == VARINT_BYTES_MAX - 1 && *byte > 1 {
                break;
            }
            number |= bits;
            if *byte < 0x80 {
                self.rest = &self.rest[n + 1..];
                return Ok(number);
            }
        }
        Err("a number of its columns has no end")
    }

    /// The number that is so far from `before`.
    #[inline]
    pub(super) fn difference(&mut self, before: u64) -> Result<u64, Damage> {
        let zigzag = self.varint()?;
        Ok(before.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg()))
    }

    /// A count of items that take `item_bytes_min` each: never more than the rest can hold, or than `most`.
    pub(super) fn count(&mut self, item_bytes_min: usize, most: usize) -> Result<usize, Damage> {
        let count = self.varint()?;
        let most = most.min(self.rest.len() / item_bytes_min);
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or("it counts more than it can hold")
    }

    pub(in crate::table) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_differences_come_back() {
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX / 2, u64::MAX - 1, u64::MAX];
        for before in numbers {
            for number in numbers {
                let mut out = Vec::new();
                put_varint(&mut out, number);
                put_difference(&mut out, before, number);
                assert!(out.len() <= 2 * VARINT_BYTES_MAX);
                let mut columns = Columns::new(&out);
                assert_eq!(columns.varint(), Ok(number));
                assert_eq!(columns.difference(before), Ok(number));
                assert!(columns.is_empty());
            }
        }
    }

    #[test]
    fn small_differences_are_one_byte_in_both_directions() {
        for number in [936, 1000, 1063] {
            let mut out = Vec::new();
            put_difference(&mut out, 1000, number);
            assert_eq!(out.len(), 1, "{number}");
        }
    }

    #[test]
    fn numbers_beyond_64_bits_and_without_end_are_refused() {
        for bytes in [&[0xff; 10][..], &[0xff; 3], &[], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            assert!(Columns::new(bytes).varint().is_err(), "{bytes:?}");
        }
    }
}
