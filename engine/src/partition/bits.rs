//! Numbers in as few bits as they need: columns of numbers that are small where traffic is regular, and large at times.
//!
//! | a column | `[order 6 bits][number]...` |
//! |---|---|
//! | a number | bits of `number >> order` in unary (that many 0, then 1), those bits but the top one, `order` low bits |
//!
//! Bits fill bytes from the lowest on. A column of zeroes is its order alone, [`ORDER_ZEROES`].
//!
//! Invariants
//! - The order follows from the numbers: equal columns are equal bits.

/// Bits of an order.
const ORDER_BITS: u32 = 6;
/// The order of a column of zeroes.
const ORDER_ZEROES: u32 = 63;

/// Appends bits to bytes.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, count: 0 }
    }

    /// The lowest `bits` of `value`; it has no others.
    fn put(&mut self, value: u64, bits: u32) {
        debug_assert!(bits == 64 || value >> bits == 0, "{value} has more than {bits} bits");
        self.pending |= value << self.count;
        if self.count + bits < 64 {
            self.count += bits;
            return;
        }
        self.out.extend_from_slice(&self.pending.to_le_bytes());
        let taken = 64 - self.count;
        self.pending = if taken == 64 { 0 } else { value >> taken };
        self.count = bits - taken;
    }

    /// A column. Their number is not written.
    pub(crate) fn put_column(&mut self, column: &[u64]) {
        if column.iter().all(|number| *number == 0) {
            return self.put(ORDER_ZEROES.into(), ORDER_BITS);
        }
        // The mean length, not the length of the mean: one night between two messages must not widen all of them.
        let lengths: usize = column.iter().map(|number| length(*number) as usize).sum();
        let order = u32::try_from(lengths / column.len()).expect("at most 64").min(ORDER_ZEROES - 1);
        self.put(order.into(), ORDER_BITS);
        for number in column {
            let high = number >> order;
            let length = length(high);
            self.put(0, length);
            self.put(1, 1);
            if length > 1 {
                self.put(high ^ 1 << (length - 1), length - 1);
            }
            self.put(number & ((1 << order) - 1), order);
        }
    }

    /// The last byte is filled up with zeroes.
    pub(crate) fn finish(self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.pending.to_le_bytes()[..bytes]);
    }
}

/// Takes bits off the front of bytes.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Up to 64 bits from here; zeroes behind the end.
    fn peek(&self) -> u64 {
        let rest = &self.bytes[self.at / 8..];
        let mut word = [0; 9];
        let len = rest.len().min(word.len());
        word[..len].copy_from_slice(&rest[..len]);
        let [low @ .., top] = word;
        let skip = self.at % 8;
        u64::from_le_bytes(low) >> skip | u64::from(top) << 1 << (63 - skip)
    }

    fn take(&mut self, bits: u32) -> Option<u64> {
        let left = self.bytes.len() * 8 - self.at;
        if bits as usize > left {
            return None;
        }
        let value = match bits {
            64 => self.peek(),
            _ => self.peek() & ((1 << bits) - 1),
        };
        self.at += bits as usize;
        Some(value)
    }

    /// A column of as many numbers as there is room for; `None` where the bits are none.
    pub(crate) fn take_column(&mut self, column: &mut [u64]) -> Option<()> {
        let order = u32::try_from(self.take(ORDER_BITS)?).expect("six bits");
        if order == ORDER_ZEROES {
            column.fill(0);
            return Some(());
        }
        for number in column {
            let length = self.peek().trailing_zeros();
            if length + order > 64 {
                return None;
            }
            self.take(length)?;
            self.take(1)?;
            let high = match length {
                0 => 0,
                _ => self.take(length - 1)? | 1 << (length - 1),
            };
            *number = high << order | self.take(order)?;
        }
        Some(())
    }

    /// What is behind the byte that was taken from last; `None` where bits of that are not zero.
    pub(crate) fn finish(self) -> Option<&'a [u8]> {
        let spare = self.at.next_multiple_of(8) - self.at;
        let at = self.at.div_ceil(8);
        let is_clean = spare == 0 || self.bytes[at - 1] >> (8 - spare) == 0;
        is_clean.then(|| &self.bytes[at..])
    }
}

const fn length(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(columns: &[Vec<u64>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        columns.iter().for_each(|column| writer.put_column(column));
        writer.finish();
        bytes
    }

    #[test]
    fn regular_columns_take_few_bits() {
        let zeroes = vec![0; 64];
        let small: Vec<_> = (0..64u64).map(|n| n % 4 / 2).collect();
        let times: Vec<_> = (0..64u64).map(|n| 8_000 + n * 100 % 8_000).collect();
        assert_eq!(packed(&[zeroes]).len(), 1);
        assert!(packed(&[small]).len() <= 13);
        assert!(packed(&[times]).len() <= 64 * 16 / 8);
    }

    #[test]
    fn one_night_costs_itself_alone() {
        let mut times = vec![1_000; 64];
        let before = packed(&[times.clone()]).len();
        times[30] = 10 * 60 * 60 * 1_000;
        assert!(packed(&[times]).len() <= before + 6);
    }

    proptest! {
        #[test]
        fn columns_come_back(
            columns in proptest::collection::vec(proptest::collection::vec(
                prop_oneof![4 => 0u64..4, 2 => 0u64..1 << 20, 1 => any::<u64>(), 1 => Just(u64::MAX)], 0..70), 0..4),
        ) {
            let mut bytes = packed(&columns);
            bytes.push(77);
            let mut reader = BitReader::new(&bytes);
            for column in &columns {
                let mut found = vec![1; column.len()];
                prop_assert!(reader.take_column(&mut found).is_some());
                prop_assert_eq!(&found, column);
            }
            prop_assert_eq!(reader.finish(), Some(&[77][..]));
        }

        #[test]
        fn any_bytes_are_a_column_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80), len in 0usize..70) {
            let mut reader = BitReader::new(&bytes);
            let mut column = vec![0; len];
            while len > 0 && reader.take_column(&mut column).is_some() {}
            let _ = reader.finish();
        }
    }
}
