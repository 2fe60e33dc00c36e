/// How much the far side may make this one hold, and how much this one holds of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes of one stream that were not read yet.
    pub(crate) stream_window: u32,
    /// Bytes of all streams that were not read yet.
    pub(crate) window: u64,
    /// Streams of both directions that the far side may have open.
    pub(crate) both: u32,
    /// Streams of one direction that the far side may have open.
    pub(crate) one: u32,
    /// Bytes of all streams that wait for the socket.
    pub(crate) queue: usize,
}
