//! Which files to merge. Pure: sizes in, a range out.
//!
//! Files are merged when there are [`MERGE_FILES_AT`]: the newest ones, and on towards the older as long as the next
//! is not more than twice what is already taken. Each byte is rewritten about log(size) times. (The tree that knows
//! windows of time and levels comes in its place.)
//!
//! Invariants
//! - A plan is a contiguous range in order of age, of two files at least: merging it keeps "the newest decides" true.

use core::ops::Range;

use crate::limits::MERGE_FILES_AT;

/// The files to merge, as a range of `sizes`, which are in order of age, oldest first.
pub fn plan_merge(sizes: &[u64]) -> Option<Range<usize>> {
    if sizes.len() < MERGE_FILES_AT {
        return None;
    }
    let mut first = sizes.len() - 1;
    let mut taken = sizes[first];
    while first > 0 {
        let next = sizes[first - 1];
        if next > taken.saturating_mul(2) && sizes.len() - first >= 2 {
            break;
        }
        taken = taken.saturating_add(next);
        first -= 1;
    }
    Some(first..sizes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_new_files_are_merged_and_a_large_old_one_is_left_alone() {
        assert_eq!(plan_merge(&[1000, 10, 10, 10, 10, 10]), Some(1..6));
        assert_eq!(plan_merge(&[10, 10, 10]), None);
        assert_eq!(plan_merge(&[10; 6]), Some(0..6));
    }

    proptest! {
        #[test]
        fn a_plan_reaches_the_newest_and_has_two_files(sizes in proptest::collection::vec(0u64..1 << 40, 0..20)) {
            match plan_merge(&sizes) {
                None => prop_assert!(sizes.len() < MERGE_FILES_AT),
                Some(range) => prop_assert!(range.end == sizes.len() && range.len() >= 2),
            }
        }
    }
}
