//! Checksums of journal segments, table files, blocks and manifests, recomputed in place. What is too short, or points
//! outside, stays as it is.

use core::ops::Range;

use crate::{BLOCK_BYTES, MESSAGE_BLOCK_PLACE};

const BATCH_MAGIC: &[u8] = b"CLTB";
const BATCH_HEADER_BYTES: usize = 32;
const RECORD_HEADER_BYTES: usize = 29;
/// The shortest header of a block in a table file: that of rows.
const ROWS_HEADER_BYTES: usize = 20;
const MESSAGES_HEADER_BYTES: usize = 24;

/// Seals a journal segment: the header's generation, and each batch that begins at a block, with its records.
pub fn seal_journal(image: &mut [u8], generation: u64) {
    let generation = generation.to_le_bytes();
    if image.len() < BLOCK_BYTES {
        return;
    }
    put(image, 16, &generation);
    let sum = crc(&[&image[..12], &generation]);
    put_u32(image, 12, sum);
    for at in (BLOCK_BYTES..image.len()).step_by(BLOCK_BYTES) {
        let batch = &mut image[at..];
        if batch.len() < BATCH_HEADER_BYTES || batch[..4] != *BATCH_MAGIC {
            continue;
        }
        put(batch, 8, &generation);
        let end = length_at(batch, 20).min(batch.len());
        let mut record = BATCH_HEADER_BYTES;
        while record + RECORD_HEADER_BYTES <= end {
            let bytes = length_at(batch, record);
            if bytes < RECORD_HEADER_BYTES || record + bytes > end {
                break;
            }
            let sum = crc(&[&generation, &batch[record + 8..record + bytes]]);
            put_u32(batch, record + 4, sum);
            record += bytes;
        }
        if end >= BATCH_HEADER_BYTES {
            let sum = crc(&[&generation, &batch[8..end]]);
            put_u32(batch, 4, sum);
        }
    }
}

/// Seals a table file: each block that the index names, the four sections, the whole file, the footer.
pub fn seal_table(image: &mut [u8]) {
    let Some(footer) = image.len().checked_sub(BLOCK_BYTES) else {
        return;
    };
    let file: [u8; 8] = image[footer + 16..footer + 24].try_into().expect("8 bytes");
    // Chats, filter, index, properties: each from its place to the next one's, the last to `end`.
    let sections: Vec<_> = (0..4).map(|n| section(image, footer + 24 + n * 8, footer)).collect();
    if let Some(index) = &sections[2] {
        for (at, bytes) in blocks(&image[index.clone()]) {
            seal_block(image, footer, file, at, bytes);
        }
    }
    for range in sections.into_iter().flatten() {
        let sum = crc(&[&image[range.start + 4..range.end]]);
        put_u32(image, range.start, sum);
    }
    let sum = crc(&[&image[..footer]]);
    put_u32(image, footer + 64, sum);
    let sum = crc(&[&image[footer..footer + 12], &image[footer + 16..]]);
    put_u32(image, footer + 12, sum);
}

/// Seals a block of messages.
pub fn seal_message_block(block: &mut [u8]) {
    if block.len() >= MESSAGES_HEADER_BYTES {
        let (file, offset) = MESSAGE_BLOCK_PLACE;
        seal_exact_block(block, file.to_le_bytes(), offset);
    }
}

/// Declares the columns of a block of messages to be stored as they are, and seals it: a fuzzer does not get through
/// zstd to what is behind it.
pub fn plain_message_block(block: &mut [u8]) {
    if let Some(rest) = block.len().checked_sub(MESSAGES_HEADER_BYTES) {
        let stored = u32::try_from(length_at(block, 16).min(rest)).expect("it was a u32");
        put_u32(block, 16, stored);
        put_u32(block, 20, stored);
        seal_message_block(block);
    }
}

/// Seals a manifest.
pub fn seal_manifest(image: &mut [u8]) {
    if image.len() >= 16 {
        let sum = crc(&[&image[..12], &image[16..]]);
        put_u32(image, 12, sum);
    }
}

/// The section whose place is at `field` of the footer, and whose end is in the field behind it; if it lies before the
/// footer and holds at least its crc.
fn section(image: &[u8], field: usize, footer: usize) -> Option<Range<usize>> {
    let (at, end) = (number_at(image, field)?, number_at(image, field + 8)?);
    (at.checked_add(4)? <= end && end <= footer).then_some(at..end)
}

/// Offset and length of each block in an index, up to the first entry that is cut off.
fn blocks(index: &[u8]) -> Vec<(usize, usize)> {
    let mut blocks = Vec::new();
    let mut at = 4;
    while at + 2 <= index.len() {
        at += 2 + usize::from(u16::from_le_bytes([index[at], index[at + 1]]));
        if at + 12 > index.len() {
            break;
        }
        blocks.extend(number_at(index, at).map(|offset| (offset, length_at(index, at + 8))));
        at += 12;
    }
    blocks
}

fn seal_block(image: &mut [u8], footer: usize, file: [u8; 8], at: usize, bytes: usize) {
    let Some(end) = at.checked_add(bytes).filter(|end| *end <= footer && bytes >= ROWS_HEADER_BYTES) else {
        return;
    };
    let offset = u64::try_from(at).expect("a length in memory");
    seal_exact_block(&mut image[at..end], file, offset);
}

/// Length and crc of a block that is exactly `block`.
fn seal_exact_block(block: &mut [u8], file: [u8; 8], offset: u64) {
    let Ok(bytes) = u32::try_from(block.len()) else {
        return;
    };
    put_u32(block, 8, bytes);
    let sum = crc(&[&file, &offset.to_le_bytes(), &block[8..]]);
    put_u32(block, 4, sum);
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn length_at(bytes: &[u8], at: usize) -> usize {
    let field = bytes[at..at + 4].try_into().expect("4 bytes");
    usize::try_from(u32::from_le_bytes(field)).expect("at least 32 bits")
}

fn number_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes[at..at + 8].try_into().expect("8 bytes");
    usize::try_from(u64::from_le_bytes(field)).ok()
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn put_u32(bytes: &mut [u8], at: usize, number: u32) {
    put(bytes, at, &number.to_le_bytes());
}
