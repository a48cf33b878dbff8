//! Block-aligned buffers: what direct I/O reads into and writes from.
//!
//! Invariants
//! - The memory begins at a multiple of `BLOCK_BYTES` and its capacity is one; `len` is at most the capacity.
//! - All `capacity` bytes are initialised: they are zeroed when allocated.

use core::{alloc::Layout, ops, ptr::NonNull};

use crate::limits::BLOCK_BYTES;

/// Bytes on the heap, aligned for direct I/O.
pub struct AlignedBuf {
    memory: NonNull<u8>,
    capacity: usize,
    len: usize,
}

#[expect(unsafe_code, reason = "aligned allocation")]
// SAFETY: the buffer owns its memory alone, like a Vec.
unsafe impl Send for AlignedBuf {}

impl AlignedBuf {
    /// `len` zero bytes, with room up to the next multiple of a block.
    #[expect(unsafe_code, reason = "aligned allocation")]
    pub fn zeroed(len: usize) -> Self {
        let capacity = len.max(1).next_multiple_of(BLOCK_BYTES);
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not 0.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { std::alloc::handle_alloc_error(layout) };
        Self { memory, capacity, len }
    }

    /// A copy of `bytes`, padded with zeroes to a multiple of a block.
    pub fn padded(bytes: &[u8]) -> Self {
        let mut buf = Self::zeroed(bytes.len().max(1).next_multiple_of(BLOCK_BYTES));
        buf[..bytes.len()].copy_from_slice(bytes);
        buf
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, BLOCK_BYTES).expect("capacities are far below the address space")
    }

    /// Bytes it can hold without moving.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the length; bytes that appear are those last written there, or zero.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "length {len} is beyond the capacity {}", self.capacity);
        self.len = len;
    }

    /// Appends bytes; grows to a larger buffer where there is no room.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if end > self.capacity {
            let mut larger = Self::zeroed(end.max(self.capacity * 2));
            larger[..self.len].copy_from_slice(self);
            larger.len = self.len;
            *self = larger;
        }
        let start = self.len;
        self.len = end;
        self[start..end].copy_from_slice(bytes);
    }

    /// The whole memory, for a driver.
    pub const fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_ptr()
    }
}

#[expect(unsafe_code, reason = "aligned allocation")]
impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout.
        unsafe { std::alloc::dealloc(self.memory.as_ptr(), Self::layout(self.capacity)) }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[expect(unsafe_code, reason = "aligned allocation")]
impl ops::Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len <= capacity` bytes are initialised and ours.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

#[expect(unsafe_code, reason = "aligned allocation")]
impl ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len <= capacity` bytes are initialised and ours alone.
        unsafe { core::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl core::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_zeroed_and_grows() {
        let mut buf = AlignedBuf::zeroed(10);
        assert_eq!(buf.as_ptr() as usize % BLOCK_BYTES, 0);
        assert!(buf.iter().all(|byte| *byte == 0));
        buf.extend_from_slice(&[7; 5000]);
        assert_eq!((buf.len(), buf[9], buf[10], buf[5009]), (5010, 0, 7, 7));
        assert_eq!(buf.as_ptr() as usize % BLOCK_BYTES, 0);
        assert_eq!(AlignedBuf::padded(b"abc").len(), BLOCK_BYTES);
    }
}
