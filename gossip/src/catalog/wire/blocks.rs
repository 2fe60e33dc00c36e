//! The blocks that a delta travels in.

use super::cursor::Cursor;
use super::{MAX_BLOCK, MAX_DELTA, WireError};

const END: u8 = 0;
const ZSTD: u8 = 1;
const PLAIN: u8 = 2;
/// How a zstd frame starts (RFC 8878, section 3.1.1). The library also opens formats that are older.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The operations of a delta, out of their blocks.
pub(super) struct Unpacked {
    /// Their bytes: at most [`MAX_DELTA`] and one block.
    pub(super) bytes: Vec<u8>,
    /// More followed, so the last operation may be incomplete.
    pub(super) cut: bool,
}

/// Reads blocks to their end, which is the message's end, or until there are enough.
pub(super) fn unpack(input: &mut Cursor<'_>) -> Result<Unpacked, WireError> {
    let mut bytes = Vec::new();
    let mut room = Vec::new();
    loop {
        let kind = input.u8("a block")?;
        if kind == END {
            input.end()?;
            return Ok(Unpacked { bytes, cut: false });
        }
        if bytes.len() >= MAX_DELTA {
            return Ok(Unpacked { bytes, cut: true });
        }
        let len = input.u16("a block")?;
        let block = input.take(len.into(), "a block")?;
        match kind {
            PLAIN => bytes.extend_from_slice(block),
            ZSTD => {
                room.resize(MAX_BLOCK, 0);
                if !block.starts_with(&ZSTD_MAGIC) {
                    return Err(WireError::Decompress);
                }
                let len = zstd::bulk::decompress_to_buffer(block, &mut room[..]).map_err(|_| WireError::Decompress)?;
                bytes.extend_from_slice(&room[..len]);
            }
            other => return Err(WireError::Block(other)),
        }
    }
}

/// Writes operations as plain blocks.
pub(super) fn pack(operations: &[u8], output: &mut Vec<u8>) {
    for block in operations.chunks(MAX_BLOCK) {
        output.push(PLAIN);
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        output.extend_from_slice(&len.to_le_bytes());
        output.extend_from_slice(block);
    }
    output.push(END);
}
