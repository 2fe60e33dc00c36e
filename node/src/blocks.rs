//! Memory that bytes of local connections are read into.

use std::cell::RefCell;

use bytes::BytesMut;

/// The most that one read takes, in bytes.
pub(crate) const READ_SIZE: usize = 64 * 1024;
/// With less room than this a new block is begun.
const READ_MIN: usize = 4 * 1024;

thread_local! {
    /// All connections of a shard read into one block, one behind the other: an idle one costs no buffer.
    static BLOCK: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Gives `read` a block with room, and returns with its result what it wrote there.
pub(crate) fn read<R>(read: impl FnOnce(&mut BytesMut) -> R) -> (R, BytesMut) {
    BLOCK.with_borrow_mut(|block| {
        if block.capacity() < READ_MIN && !block.try_reclaim(READ_SIZE) {
            *block = BytesMut::with_capacity(READ_SIZE);
        }
        (read(block), block.split())
    })
}
