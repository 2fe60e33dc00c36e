use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

/// What the measuring tools of the peers directory bind: an abstract socket, freed when its process ends.
const NAME: &[u8] = b"starling-peers";
/// How long the others may measure.
const PATIENCE: Duration = Duration::from_hours(1);
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// One measurement at a time on the machine: held until it is dropped.
#[derive(Debug)]
pub struct Lock(UnixListener);

impl Lock {
    /// Waits for its turn, for an hour at most.
    pub fn take() -> io::Result<Self> {
        let (address, since) = (SocketAddr::from_abstract_name(NAME)?, Instant::now());
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(socket) => return Ok(Self(socket)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && since.elapsed() < PATIENCE => {
                    eprintln!("another measurement runs on this machine: waiting for it");
                    std::thread::sleep(BETWEEN_LOOKS);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends it.
    pub fn give_back(self) {
        drop(self.0);
    }
}
