//! Identifiers of storage. Every id and unit is a newtype, checked where bytes come in, trusted afterwards.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// The lowest value.
            pub const ZERO: Self = Self(0);

            /// Wraps a number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The next one.
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// A hash range of ids, with its own Raft group and tree. Fixed number, set at the first start.
    PartitionId(u32)
}
number! {
    /// A core of this node, from 0.
    CoreId(u16)
}
number! {
    /// A Raft term.
    Term(u64)
}
number! {
    /// Position in a partition's Raft log, dense, from 1; 0 is "before the first".
    LogIndex(u64)
}
number! {
    /// A journal segment's generation: grows with every segment that is put to use, never reused.
    SegmentId(u64)
}
number! {
    /// A table file within its partition: grows, never reused.
    FileId(u64)
}
