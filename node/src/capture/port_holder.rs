use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The program that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// What it is bound to, such as `0.0.0.0:80`.
    pub address: SocketAddr,
    /// Its process, where this user may see it.
    pub process: Option<(u32, String)>,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, program)) => write!(f, "{program} (process {pid}) on {}", self.address),
            None => write!(f, "a program of another user on {}", self.address),
        }
    }
}

/// `TCP_LISTEN`, as `/proc/net/tcp` writes the state.
const LISTENING: &str = "0A";

/// Who keeps `address` from being bound: a listener on that very address, or on all addresses of the host. Reads
/// `/proc`; call it on a failure, not on a hot path.
pub fn holder_of(address: SocketAddr) -> Option<PortHolder> {
    let proc = Path::new("/proc");
    let tables = ["net/tcp", "net/tcp6"].map(|table| fs::read_to_string(proc.join(table)).unwrap_or_default());
    let (held, inode) = tables.iter().flat_map(|table| table.lines()).filter_map(listener).find(|(held, _)| {
        held.port() == address.port() && (held.ip().to_canonical() == address.ip() || held.ip().is_unspecified())
    })?;
    Some(PortHolder { address: held, process: process_of(proc, inode) })
}

/// The address and inode of a line of `/proc/net/tcp` or `tcp6` that shows a listener.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = fields.next()?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    if state == LISTENING { Some((socket_address(local)?, inode)) } else { None }
}

/// `0100007F:0050` is 127.0.0.1:80: each 32 bits in the machine's byte order, the port as a number.
pub(crate) fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (part, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                part.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn process_of(proc: &Path, inode: u64) -> Option<(u32, String)> {
    let socket = format!("socket:[{inode}]");
    for entry in fs::read_dir(proc).ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process of another user, or one that has just ended, shows nothing.
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == &*socket));
        if holds {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_line_of_proc_net_tcp_shows_a_listener() {
        let line = "   1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listener(line), Some(("127.0.0.1:80".parse().unwrap(), 4711)));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None, "a connection");
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue rx_queue"), None);
        let line = "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0";
        assert_eq!(listener(line), Some(("[::]:8080".parse().unwrap(), 12)));
        for bad in ["", "0:", "0: zz:1 a 0A", "0: 0100007F 0 0A 0 0 0 0 0 1", "0: 0100:0050 0 0A 0 0 0 0 0 1"] {
            assert_eq!(listener(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_program_on_all_addresses_is_named() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = holder_of(SocketAddr::new([127, 77, 3, 4].into(), port)).unwrap();
        assert_eq!(holder.address, SocketAddr::new([0, 0, 0, 0].into(), port));
        assert_eq!(holder.process.as_ref().unwrap().0, std::process::id());
        assert!(holder.to_string().contains(&format!("process {}", std::process::id())), "{holder}");
    }

    #[test]
    fn a_port_on_another_address_is_no_hindrance() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(holder_of(SocketAddr::new([127, 77, 3, 4].into(), listener.local_addr().unwrap().port())), None);
    }
}
