//! The members that a node knew, as lines that are only ever appended while it runs.
//!
//! ```text
//! + <node id> <ip> <gossip port> <quic port> <generation> <name> .
//! - <node id> .
//! ```
//!
//! A line counts once its end is there, so a write that was cut off leaves the file readable.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use starling_gossip::RememberedMember;
use starling_proto::{Generation, NodeAddress, NodeId, SpiffeId, TrustDomain};

use super::data_dir::{read_at_most, replace};

/// A file longer than this is none of ours: 500 members and many changes of each have less.
const MAX_FILE: u64 = 16 << 20;
/// Lines beyond this many for each member make the file worth rewriting when the node starts.
const SLACK: usize = 4;

/// The open file, and what stands in it.
#[derive(Debug)]
pub(super) struct MembersFile {
    file: File,
    written: BTreeMap<NodeId, RememberedMember>,
}

impl MembersFile {
    /// Opens the file, made anew if there is none, and reads the members in it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<RememberedMember>)> {
        let text = read_at_most(path, MAX_FILE)?;
        let mut written = BTreeMap::new();
        let mut lines = 0;
        for line in String::from_utf8_lossy(&text).lines() {
            lines += 1;
            match parse(line) {
                Some(Line::Known(member)) => drop(written.insert(member.id, member)),
                Some(Line::Forgotten(id)) => drop(written.remove(&id)),
                None => {}
            }
        }
        let torn = text.last().is_some_and(|last| *last != b'\n');
        if torn || lines > SLACK * (written.len() + 8) || text.is_empty() {
            let short: String = written.values().map(known_line).collect();
            replace(path, short.as_bytes())?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        let members = written.values().cloned().collect();
        Ok((Self { file, written }, members))
    }

    /// Appends what changed.
    pub(super) fn update(&mut self, members: &[RememberedMember]) -> io::Result<()> {
        let now: BTreeMap<NodeId, RememberedMember> = members.iter().map(|m| (m.id, m.clone())).collect();
        let changed = now.values().filter(|member| self.written.get(&member.id) != Some(member)).map(known_line);
        let gone = self.written.keys().filter(|id| !now.contains_key(id)).map(|id| format!("- {id} .\n"));
        let lines: String = changed.chain(gone).collect();
        if !lines.is_empty() {
            self.file.write_all(lines.as_bytes())?;
            self.file.sync_data()?;
        }
        self.written = now;
        Ok(())
    }
}

enum Line {
    Known(RememberedMember),
    Forgotten(NodeId),
}

fn known_line(member: &RememberedMember) -> String {
    let NodeAddress { ip, gossip_port, quic_port } = member.address;
    format!("+ {} {ip} {gossip_port} {quic_port} {} {} .\n", member.id, member.generation, member.name)
}

fn parse(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["-", id, "."] => Some(Line::Forgotten(id.parse().ok()?)),
        ["+", id, ip, gossip_port, quic_port, generation, name, "."] => {
            // A node's name is what a certificate can hold.
            let any: TrustDomain = "any".parse().ok()?;
            SpiffeId::try_new(any, name).ok()?;
            Some(Line::Known(RememberedMember {
                id: id.parse().ok()?,
                name: name.to_owned(),
                address: NodeAddress {
                    ip: ip.parse().ok()?,
                    gossip_port: gossip_port.parse().ok()?,
                    quic_port: quic_port.parse().ok()?,
                },
                generation: Generation(generation.parse().ok()?),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn member(n: u8) -> RememberedMember {
        RememberedMember {
            id: NodeId::from_bytes([n; 16]),
            name: format!("web-{n}"),
            address: NodeAddress { ip: [10, 0, 0, n].into(), gossip_port: 7946, quic_port: 7947 },
            generation: Generation(u32::from(n)),
        }
    }

    #[test]
    fn members_are_found_again_and_only_changes_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members");
        let (mut file, found) = MembersFile::open(&path).unwrap();
        assert_eq!(found, []);
        file.update(&[member(1), member(2)]).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        file.update(&[member(1), member(2)]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), length);
        let moved = RememberedMember { generation: Generation(9), ..member(2) };
        file.update(&[moved.clone(), member(3)]).unwrap();
        assert_eq!(MembersFile::open(&path).unwrap().1, [moved, member(3)]);
    }

    #[test]
    fn a_file_cut_off_at_any_byte_is_readable_and_can_be_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members");
        let (mut file, _) = MembersFile::open(&path).unwrap();
        file.update(&[member(1)]).unwrap();
        let first = fs::metadata(&path).unwrap().len();
        file.update(&[member(1), member(2)]).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut file, found) = MembersFile::open(&path).unwrap();
            // The end of the line needs not be there for the line to be whole.
            let whole_first = u64::try_from(cut).unwrap() + 1 >= first;
            let expected = if cut + 1 == whole.len() { vec![member(1), member(2)] } else { vec![member(1)] };
            assert_eq!(found, if whole_first { expected } else { vec![] }, "cut at {cut}");
            file.update(&[member(3)]).unwrap();
            assert_eq!(MembersFile::open(&path).unwrap().1, [member(3)], "cut at {cut}");
        }
    }

    #[test]
    fn a_long_history_is_made_short_at_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members");
        let (mut file, _) = MembersFile::open(&path).unwrap();
        for n in 0..200 {
            file.update(&[RememberedMember { generation: Generation(n), ..member(1) }]).unwrap();
        }
        let before = fs::metadata(&path).unwrap().len();
        let (_, found) = MembersFile::open(&path).unwrap();
        assert_eq!(found[0].generation, Generation(199));
        assert!(fs::metadata(&path).unwrap().len() < before / 100);
    }

    #[test]
    fn what_is_no_line_of_ours_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members");
        let good = known_line(&member(1));
        fs::write(&path, [b"\xff\xfe\n+ x y z .\nhello\n", good.as_bytes(), b"- zz .\n"].concat()).unwrap();
        assert_eq!(MembersFile::open(&path).unwrap().1, [member(1)]);
    }
}
