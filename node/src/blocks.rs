//! Memory that bytes of local connections are read into.

use std::cell::RefCell;
use std::io;

use bytes::BytesMut;
use tokio::io::Interest;
use tokio::net::TcpStream;

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

/// Reads what there is into the room of `block`, without waiting; 0 at the end. A read that leaves room has read all: the stream counts as
/// drained then, and is not read once more only to hear that nothing is there.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing, and those of the stream.
pub(crate) fn receive(stream: &TcpStream, block: &mut BytesMut) -> io::Result<usize> {
    let mut read_all = None;
    let read = stream.try_io(Interest::READABLE, || {
        let room = block.capacity() - block.len();
        let read = stream.try_read_buf(block)?;
        if read > 0 && read < room {
            read_all = Some(read);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(read)
    });
    read_all.map_or(read, Ok)
}
