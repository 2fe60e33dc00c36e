//! What programs take of the machine, as `/proc` counts it (proc(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// Clock ticks a second, as `/proc` counts processor time on Linux.
const TICKS: f64 = 100.0;
/// The parent of all threads of the kernel.
const KTHREADD: u32 = 2;

/// A size of `/proc/PID/status`, such as `VmRSS`, in bytes; 0 if there is none.
pub(crate) fn memory(pid: u32, key: &str) -> u64 {
    size(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), key)
}

/// What a process has in memory, where each page that several have counts in equal parts, in bytes; 0 if there is none.
pub(crate) fn proportional_memory(pid: u32) -> u64 {
    size(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), "Pss")
}

fn size(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib * 1024
}

/// User and system time of a process, in seconds; 0 if there is none.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    Process::read(pid).map_or(0.0, |process| process.own)
}

/// The names and numbers of a section of `/proc/PID/net/netstat` or `snmp`, of the network namespace of a process: such as
/// `IpExt` with `OutOctets`, bytes sent at the IP layer.
pub(crate) fn network_counters(pid: u32, file: &str, section: &str) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    // Two lines each: the names, then the numbers.
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(section)?.strip_prefix(':'));
    let (names, numbers) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let numbers = numbers.split_whitespace().map(|number| number.parse().unwrap_or(0));
    names.split_whitespace().map(str::to_owned).zip(numbers).collect()
}

/// Processes that have this one as an ancestor, or any of these as an ancestor; these included.
pub(crate) fn family(roots: &[u32]) -> BTreeSet<u32> {
    descendants(&all_processes(), roots)
}

#[derive(Debug, Clone, Copy)]
struct Process {
    parent: u32,
    /// Processor time of its own, in seconds.
    own: f64,
    /// Of its children that ended and were waited for.
    reaped: f64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // utime, stime, cutime and cstime are fields 14 to 17 (proc(5)); two stand before the `)`.
        let ticks = |field: usize| fields.get(field).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        let parent = fields.get(1)?.parse().ok()?;
        Some(Self { parent, own: (ticks(11) + ticks(12)) / TICKS, reaped: (ticks(13) + ticks(14)) / TICKS })
    }
}

fn all_processes() -> BTreeMap<u32, Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, Process::read(pid)?))).collect()
}

fn descendants(table: &BTreeMap<u32, Process>, roots: &[u32]) -> BTreeSet<u32> {
    let mut found: BTreeSet<u32> = roots.iter().copied().filter(|root| table.contains_key(root)).collect();
    loop {
        let before = found.len();
        let children = table.iter().filter(|(_, process)| found.contains(&process.parent)).map(|(pid, _)| *pid);
        let children: Vec<u32> = children.collect();
        found.extend(children);
        if found.len() == before {
            return found;
        }
    }
}

/// The machine's counters at one moment. The difference of two tells whether a measurement was disturbed.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    at: Instant,
    /// Processor time of others: neither this program, nor what it started, nor its ancestors, nor the kernel; by process.
    foreign: BTreeMap<u32, f64>,
    /// What the hypervisor gave to other guests, in seconds.
    steal: f64,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let table = all_processes();
        let mut ours = descendants(&table, &[std::process::id()]);
        let mut ancestor = table.get(&std::process::id()).map(|process| process.parent);
        while let Some((pid, process)) = ancestor.and_then(|pid| Some((pid, table.get(&pid)?))) {
            ours.insert(pid);
            ancestor = Some(process.parent);
        }
        let theirs = |pid: u32, process: &Process| pid > KTHREADD && process.parent != KTHREADD && !ours.contains(&pid);
        let foreign = table.iter().filter(|(pid, process)| theirs(**pid, process));
        let foreign = foreign.map(|(pid, process)| (*pid, process.own + process.reaped)).collect();
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let steal = stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse::<f64>().ok());
        Self { at: Instant::now(), foreign, steal: steal.unwrap_or(0.0) / TICKS }
    }

    /// How long this was before `after`.
    pub(crate) fn until(&self, after: &Self) -> Duration {
        after.at.saturating_duration_since(self.at)
    }

    /// Until then others took over 3 % of the machine, or the hypervisor over 2 %.
    pub(crate) fn was_contended_until(&self, after: &Self) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let capacity = self.until(after).as_secs_f64() * cores;
        let before = |pid: &u32| self.foreign.get(pid).copied().unwrap_or(0.0);
        let foreign: f64 = after.foreign.iter().map(|(pid, seconds)| (seconds - before(pid)).max(0.0)).sum();
        foreign > 0.03 * capacity || after.steal - self.steal > 0.02 * capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_the_processor() {
        let pid = std::process::id();
        assert!(memory(pid, "VmRSS") > 0);
        assert!(memory(pid, "VmHWM") >= memory(pid, "VmRSS") / 2);
        assert!(proportional_memory(pid) > 0);
        let spin = Instant::now();
        while processor_seconds(pid) == 0.0 {
            assert!(spin.elapsed() < Duration::from_secs(10), "a busy loop uses the processor");
        }
    }

    #[test]
    fn a_process_that_is_not_there_has_nothing() {
        let none = u32::MAX;
        assert_eq!((memory(none, "VmRSS"), proportional_memory(none)), (0, 0));
        assert!(processor_seconds(none).abs() < f64::EPSILON);
        assert!(network_counters(none, "netstat", "IpExt").is_empty());
    }

    #[test]
    fn this_namespace_counts_what_it_sends() {
        let sent = || network_counters(std::process::id(), "netstat", "IpExt").get("OutOctets").copied();
        let before = sent().expect("the kernel counts octets");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(&[0; 100], socket.local_addr().expect("an address")).expect("loopback takes it");
        assert!(sent().expect("it still does") >= before + 128, "100 bytes, 8 of UDP, 20 of IP");
    }

    #[test]
    fn a_family_is_all_that_descends_from_its_roots() {
        let process = |parent| Process { parent, own: 0.0, reaped: 0.0 };
        let table = [(1, process(0)), (5, process(1)), (6, process(5)), (7, process(1)), (8, process(6))].into();
        assert_eq!(descendants(&table, &[5]), [5, 6, 8].into());
        assert_eq!(descendants(&table, &[7, 6, 99]), [6, 7, 8].into());
        assert!(family(&[std::process::id()]).contains(&std::process::id()));
    }

    #[test]
    fn this_program_does_not_disturb_itself() {
        let before = Machine::now();
        let child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        let mut child = child.expect("a shell");
        let spin = Instant::now();
        while processor_seconds(child.id()) < 0.1 {
            assert!(spin.elapsed() < Duration::from_secs(20), "a busy loop uses the processor");
        }
        let after = Machine::now();
        child.kill().and_then(|()| child.wait()).expect("it ends");
        assert!(before.until(&after) > Duration::ZERO);
        assert!(!after.foreign.contains_key(&child.id()) && !before.foreign.contains_key(&std::process::id()));
    }
}
