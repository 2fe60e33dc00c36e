use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::dns::VipRange;

const BEGIN: &str = "# starling begin: `starling capture uninstall` removes these lines";
const END: &str = "# starling end";

/// A `resolv.conf` (resolv.conf(5)), as far as it matters here: which servers it names, and whether our lines stand
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Every nameserver in order, ours included; an IPv6 zone is left out.
    pub nameservers: Vec<IpAddr>,
    /// Do our lines stand in it?
    pub has_our_lines: bool,
}

impl ResolvConf {
    /// Reads what it can; lines that make no sense are passed over, as the system's resolver does.
    pub fn parse(text: &str) -> Self {
        let nameservers = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
                address.split('%').next()?.parse().ok()
            })
            .collect();
        Self { nameservers, has_our_lines: our_lines(text).is_some() }
    }

    /// The host's own resolvers, for names outside the mesh: none unless our lines stand in the file.
    pub fn upstreams(&self, range: VipRange) -> Vec<SocketAddr> {
        let is_ours = |address: &IpAddr| matches!(address, IpAddr::V4(address) if range.contains(*address));
        let others = self.nameservers.iter().filter(|address| !is_ours(address));
        if self.has_our_lines { others.map(|address| SocketAddr::new(*address, 53)).collect() } else { Vec::new() }
    }

    /// Does the first server belong to systemd-resolved (its stub listeners)?
    pub fn is_resolved_stub(&self) -> bool {
        let stubs = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)].map(IpAddr::V4);
        self.nameservers.first().is_some_and(|first| stubs.contains(first))
    }
}

/// The text with our lines before everything else; what else stands there stays as it is, byte for byte.
pub(super) fn with_our_lines(text: &str, nameserver: Ipv4Addr) -> String {
    format!("{BEGIN}\nnameserver {nameserver}\n{END}\n{}", without_our_lines(text))
}

/// The text as it would be without us, byte for byte.
pub(super) fn without_our_lines(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(lines) = our_lines(&text) {
        text.replace_range(lines, "");
    }
    text
}

fn our_lines(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.find(BEGIN).filter(|start| *start == 0 || text.as_bytes()[start - 1] == b'\n')?;
    let end = start + text[start..].find(END)? + END.len();
    let newline = usize::from(text.as_bytes().get(end) == Some(&b'\n'));
    Some(start..end + newline)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 53);

    #[test]
    fn our_server_comes_first_and_the_originals_stay() {
        let original = "# by dhcp\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nsearch example.com\noptions ndots:2";
        let text = with_our_lines(original, OURS);
        let parsed = ResolvConf::parse(&text);
        let addresses = ["127.77.0.53", "10.0.0.2", "fe80::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(parsed.nameservers, addresses);
        assert_eq!(
            parsed.upstreams(VipRange::default()),
            ["10.0.0.2:53".parse().unwrap(), "[fe80::1]:53".parse::<SocketAddr>().unwrap()]
        );
        assert_eq!(with_our_lines(&text, OURS), text, "twice is once");
        assert_eq!(without_our_lines(&text), original);
    }

    #[test]
    fn without_our_lines_there_are_no_upstreams() {
        let parsed = ResolvConf::parse("nameserver 10.0.0.2\n");
        assert!(!parsed.has_our_lines);
        assert!(parsed.upstreams(VipRange::default()).is_empty());
    }

    #[test]
    fn the_stub_of_systemd_resolved_is_known() {
        assert!(ResolvConf::parse("nameserver 127.0.0.53\noptions edns0\n").is_resolved_stub());
        assert!(!ResolvConf::parse("nameserver 10.0.0.2\nnameserver 127.0.0.53\n").is_resolved_stub());
        assert!(!ResolvConf::parse("").is_resolved_stub());
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        assert_eq!(
            ResolvConf::parse("nameserver\nnameserver x\n nameserver 1.1.1.1 # a\n;nameserver 2.2.2.2\n").nameservers,
            [IpAddr::from([1, 1, 1, 1])]
        );
    }

    proptest! {
        #[test]
        fn removing_our_lines_restores_any_file(original in "[ -~\\n]{0,200}") {
            prop_assert_eq!(without_our_lines(&with_our_lines(&original, OURS)), original);
        }
    }
}
