//! A process that writes all of it, over and over, and is killed while it does.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use starling_gossip::{Remembered, RememberedMember};
use starling_proto::mesh::v1::{GroupKey, KeyringState, SignedKeyring, SignedValue};
use starling_proto::{Generation, NodeAddress, NodeId};

use super::DataDir;

const DIRECTORY: &str = "TEST_DATA_DIR";
const WRITER: &str = "mesh::data_dir::killed::writes_until_it_is_killed";
/// What each process writes at most, should nobody kill it.
const MOST: u32 = 2_000;

fn members(n: u32) -> Vec<RememberedMember> {
    let member = |index: u8| RememberedMember {
        id: NodeId::from_bytes([index; 16]),
        name: format!("web-{index}"),
        address: NodeAddress { ip: Ipv4Addr::new(10, 0, 0, index).into(), gossip_port: 1, quic_port: 2 },
        generation: Generation(n),
    };
    (1..=4).map(member).collect()
}

/// Two keys and one, in turn: so it is appended to, and made anew.
fn keys(n: u32) -> KeyringState {
    let key = |epoch| GroupKey { epoch, key: vec![0xaa; 32].into() };
    let statement = [&n.to_be_bytes()[..], &[7; 60]].concat().into();
    let signed = SignedKeyring { statement, ..SignedKeyring::default() };
    KeyringState { signed: Some(signed), keys: if n.is_multiple_of(3) { vec![key(1)] } else { vec![key(1), key(2)] } }
}

fn records(n: u32) -> Vec<SignedValue> {
    let value = |key: &str| SignedValue {
        owner: vec![1; 16].into(),
        generation: n,
        key: key.to_owned(),
        body: vec![1; 900].into(),
        signature: n.to_be_bytes().repeat(16).into(),
        ..SignedValue::default()
    };
    if n.is_multiple_of(5) { vec![value("a")] } else { vec![value("a"), value("b")] }
}

#[test]
#[ignore = "is started by the test below, to be killed"]
fn writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (mut data, found) = DataDir::open(Path::new(&directory)).unwrap();
    let first = found.generation.map_or(0, |(generation, _)| generation.0);
    for n in first + 1..first + MOST {
        data.remember_keys(&keys(n)).unwrap();
        data.remember_records(&records(n)).unwrap();
        let remembered = Remembered { generation: Generation(n), rejoin: 0, members: members(n) };
        data.remember(&remembered).unwrap();
        println!("wrote {n}");
    }
}

#[test]
fn whatever_was_written_is_found_after_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..24 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", WRITER, "--ignored", "--nocapture"]).env(DIRECTORY, dir.path());
        let mut writer = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut told = lines.filter_map(|line| line.strip_prefix("wrote ")?.parse::<u32>().ok());
        // Killed while it is at the next, wherever in it.
        let last = told.by_ref().nth(round % 7).unwrap();
        writer.kill().unwrap();
        writer.wait().unwrap();
        // What it wrote and told before it died.
        let last = told.last().unwrap_or(last);
        let (_, found) = DataDir::open(dir.path()).unwrap();
        assert_eq!(found.damage, [""; 0], "round {round}");
        let generation = found.generation.unwrap().0.0;
        assert!((last..=last + 1).contains(&generation), "round {round}: {generation} after {last}");
        let n =
            u32::from_be_bytes(found.keys.last().unwrap().signed.as_ref().unwrap().statement[..4].try_into().unwrap());
        assert!((last..=last + 1).contains(&n), "round {round}: keys {n} after {last}");
        assert_eq!(found.keys.last(), Some(&keys(n)), "round {round}");
        // Each line of the members, and each record, is of this write or of the one before.
        assert_eq!(found.members.len(), 4, "round {round}");
        let newest = |generation: u32| (last..=last + 1).contains(&generation);
        assert!(found.members.iter().all(|member| newest(member.generation.0)), "round {round}: {:?}", found.members);
        let values: Vec<SignedValue> = [last, last + 1].into_iter().flat_map(records).collect();
        assert!(found.records.iter().all(|value| values.contains(value)), "round {round}");
        assert!(found.records.iter().any(|value| value.key == "a"), "round {round}");
    }
}
