//! What a node costs its host: memory and processor when idle, memory while large bodies stream.

use std::fs;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::usage::{memory, processor_seconds};
use crate::{MeshOfHosts, MeshPlan, Process, Program, wait_until};

/// How long the idle nodes are watched.
const WATCH: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_mins(3);
/// A slow reader takes this many bytes a second, for [`SLOW_SECONDS`].
const SLOW_RATE: u64 = 256 * 1024;
const SLOW_SECONDS: u64 = 4;

/// Sends and takes bodies of any size; the path of a GET says how many bytes. Tells each body's end in its log.
const SERVICE: &str = r#"
import http.server, sys
PIECE = bytes(65536)
class Bulk(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        left = int(self.path[1:] or 0)
        self.send_response(200)
        self.send_header("content-length", str(left))
        self.end_headers()
        wrote = 0
        try:
            while left:
                wrote += self.wfile.write(PIECE[:left])
                left -= min(left, len(PIECE))
        except OSError:
            pass
        print("wrote", wrote, flush=True)
    def do_PUT(self):
        read = 0
        while size := int(self.rfile.readline(), 16):
            while size:
                piece = self.rfile.read(min(size, 65536))
                if not piece: return
                read += len(piece); size -= len(piece)
            self.rfile.readline()
        self.rfile.readline()
        body = str(read).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Bulk).serve_forever()
"#;

/// What an idle node of a mesh of five takes: the worst of them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Idle {
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Share of one core, 0 to 1.
    pub core: f64,
}

/// What bodies of `size` bytes each way did to the two nodes that carried them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bulk {
    /// Bytes of each body.
    pub size: u64,
    /// The most that either node's resident memory rose over what it was before, in bytes.
    pub growth: u64,
    /// What a server could write while its reader took 1 MiB in four seconds, in bytes.
    pub written_to_slow_reader: u64,
}

/// Watches five nodes that carry nothing.
///
/// # Panics
/// If they do not find each other.
#[track_caller]
pub fn idle() -> Idle {
    let mut mesh = MeshPlan::new("idle", 5).unprivileged().captured().start(|_, _| {});
    mesh.wait_until_whole(PATIENCE);
    // What the start took is not what idling takes.
    std::thread::sleep(Duration::from_secs(5));
    let pids: Vec<u32> = (0..5).map(|number| mesh.agent(number).pid()).collect();
    let before: Vec<f64> = pids.iter().map(|pid| processor_seconds(*pid)).collect();
    let start = Instant::now();
    std::thread::sleep(WATCH);
    let watched = start.elapsed().as_secs_f64();
    let used = pids.iter().zip(before).map(|(pid, before)| (processor_seconds(*pid) - before) / watched);
    Idle { resident: pids.iter().map(|pid| memory(*pid, "VmRSS")).max().unwrap_or(0), core: used.fold(0.0, f64::max) }
}

/// Streams a body of `size` bytes each way at once between two hosts, then one to a slow reader.
///
/// # Panics
/// If a body does not arrive whole.
#[track_caller]
pub fn bulk(size: u64) -> Bulk {
    let mut mesh = MeshPlan::new("bulk", 2).unprivileged().captured().start(|number, node| {
        if number == 1 {
            node.service("bulk", "127.0.0.1:8080").protocol("http").port(80);
        }
    });
    mesh.wait_until_whole(PATIENCE);
    let service = mesh.host(1).spawn(Program::new("python3").args(["-c", SERVICE]));
    let fetch = |mesh: &MeshOfHosts, bytes: u64| {
        let url = format!("http://bulk.mesh/{bytes}");
        let size = ["-s", "--max-time", "170", "-o", "/dev/null", "-w", "%{size_download}", url.as_str()];
        mesh.host(0).run("curl", size).stdout
    };
    // A first body, so that buffers which stay are there before.
    wait_until(PATIENCE, "the service answers", || fetch(&mesh, 8 << 20) == (8 << 20).to_string());
    let pids = [mesh.agent(0).pid(), mesh.agent(1).pid()];
    let before = pids.map(|pid| {
        // 5: forget the highest resident size so far (proc(5)).
        fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("root may reset a process's peak");
        memory(pid, "VmRSS")
    });
    let upload = format!("head -c {size} /dev/zero | curl -s --max-time 170 -H 'expect:' -T - http://bulk.mesh/");
    let up = mesh.host(0).spawn(Program::new("sh").args(["-c", &upload]));
    assert_eq!(fetch(&mesh, size), size.to_string(), "the body that came down");
    let sent = finished(up);
    assert_eq!(sent.trim(), size.to_string(), "the body that went up");
    let growth = pids.iter().zip(before).map(|(pid, before)| memory(*pid, "VmHWM").saturating_sub(before)).max();
    Bulk { size, growth: growth.unwrap_or(0), written_to_slow_reader: slow_reader(&mesh, &service, size) }
}

/// What the service could write of a large body to a reader that takes 1 MiB and goes.
fn slow_reader(mesh: &MeshOfHosts, service: &Process, size: u64) -> u64 {
    let bodies = |service: &Process| service.log().matches("wrote").count();
    let before = bodies(service);
    let (rate, seconds) = (SLOW_RATE.to_string(), SLOW_SECONDS.to_string());
    let url = format!("http://bulk.mesh/{size}");
    mesh.host(0).run("curl", ["-s", "-o", "/dev/null", "--limit-rate", &rate, "--max-time", &seconds, &url]);
    wait_until(PATIENCE, "the server learns that its reader went", || bodies(service) > before);
    let log = service.log();
    let last = log.lines().rev().find_map(|line| line.strip_prefix("wrote "));
    last.and_then(|bytes| bytes.trim().parse().ok()).expect("the service tells how much it wrote")
}

/// What a program printed, once it has ended.
fn finished(mut program: Process) -> String {
    program.wait(PATIENCE);
    program.log()
}
