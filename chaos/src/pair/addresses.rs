use std::net::{Ipv4Addr, UdpSocket};

/// Addresses in 127/8 that no other run takes meanwhile.
pub(crate) struct Addresses {
    _claim: UdpSocket,
    block: u8,
}

impl Addresses {
    /// Those of a block that is free. Panics if a hundred runs have one each.
    #[track_caller]
    pub(crate) fn claim() -> Self {
        let claim = |block| {
            let claim = UdpSocket::bind((Ipv4Addr::new(127, block, 255, 253), 49_009)).ok()?;
            Some(Self { _claim: claim, block })
        };
        (100..200).find_map(claim).expect("a free block of addresses")
    }

    /// Of the agent for the programs that call.
    pub(crate) const fn caller(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.block, 1, 1)
    }

    /// Of the agent for the services.
    pub(crate) const fn server(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.block, 2, 1)
    }

    /// Of whoever stands before the first, for the second; and of whoever stands before the second, for the first.
    pub(crate) const fn between(&self) -> [Ipv4Addr; 2] {
        [Ipv4Addr::new(127, self.block, 3, 1), Ipv4Addr::new(127, self.block, 4, 1)]
    }
}
