use starling_proto::{Generation, NodeAddress, NodeId};

/// What a node keeps on disk: hints on its next start, and the generation to start above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The node's own generation.
    pub generation: Generation,
    /// Numbers of `rejoin` below this are taken: reserved in blocks, so that a renewal waits for no disk.
    pub rejoin: u16,
    /// Members, with where they were last.
    pub members: Vec<RememberedMember>,
}

/// A member as it was last known: a hint to dial, no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedMember {
    /// Who.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where.
    pub address: NodeAddress,
    /// Which boot.
    pub generation: Generation,
}
