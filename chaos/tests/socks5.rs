//! SOCKS5 on real hosts: names and addresses of the mesh, what is beyond it, and the code of each failure.

use std::time::Duration;

use starling_chaos::{Host, MeshOfHosts, MeshPlan, Output, Process, Program, wait_until};

const SOON: Duration = Duration::from_mins(1);

/// Speaks first, as a mail server does, then gives back what it gets until the other end stops sending, and says goodbye.
const GREETER: &str = r"
import socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b'welcome\n')
        while data := self.request.recv(65536):
            self.request.sendall(data)
        self.request.sendall(b'goodbye\n')
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
";

/// A client of its own, since curl speaks no opaque TCP: prints the reply's code, then all that comes.
const CLIENT: &str = r"
import socket, struct, sys
command, kind, host, port, say = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5].encode()
s = socket.create_connection(('127.0.0.1', 4141))
s.settimeout(20)
f = s.makefile('rb')
s.sendall(b'\x05\x02\x00\x02')
assert f.read(2) == b'\x05\x00'
address = {'name': lambda: b'\x03' + bytes([len(host)]) + host.encode(),
           'ipv4': lambda: b'\x01' + socket.inet_aton(host),
           'ipv6': lambda: b'\x04' + socket.inet_pton(socket.AF_INET6, host)}[kind]()
s.sendall(b'\x05' + bytes([command]) + b'\x00' + address + struct.pack('>H', port) + say)
reply = f.read(4)
print(reply[1])
if reply[1] == 0:
    f.read({1: 4, 4: 16}[reply[3]] + 2)
    s.shutdown(socket.SHUT_WR)
    sys.stdout.write(f.read().decode())
";

const CONNECT: &str = "1";
const BIND: &str = "2";
const UDP_ASSOCIATE: &str = "3";

fn client(host: &Host, arguments: [&str; 5]) -> Output {
    host.run("python3", [&["-c", CLIENT], &arguments[..]].concat())
}

fn code(host: &Host, arguments: [&str; 5]) -> String {
    let output = client(host, arguments);
    output.stdout.lines().next().unwrap_or(&output.stderr).to_owned()
}

fn mesh(name: &str, unknown: &'static str) -> (MeshOfHosts, [Process; 2]) {
    let mut mesh = MeshPlan::new(name, 2).seeds(2).lay_out(|number, config| {
        config.set("capture.unknown", unknown);
        if number == 1 {
            config.service("orders", "127.0.0.1:8080").port(80);
            config.service("db", "127.0.0.1:3306").protocol("tcp");
            config.service("down", "127.0.0.1:3307").protocol("tcp");
        }
    });
    let host = mesh.host(1);
    let greeter = host.spawn(Program::new("python3").args(["-c", GREETER, "127.0.0.1", "3306"]));
    let web = host.spawn(Program::new("python3").args(["-m", "http.server", "8080", "--bind", "127.0.0.1"]));
    (0..2).for_each(|number| mesh.start_agent(number));
    let known = |service: &str| mesh.starling(0, &["endpoints", service]).stdout.contains("node-1");
    wait_until(SOON, "node-0 knows the services", || ["orders", "db", "down"].into_iter().all(known));
    let host = mesh.host(1);
    let listens = |port: &str| host.run("ss", ["-Hltn", &format!("sport = :{port}")]).stdout.contains(port);
    wait_until(SOON, "the programs listen", || listens("3306") && listens("8080"));
    (mesh, [greeter, web])
}

#[test]
fn opaque_tcp_and_http_go_through_by_name_by_vip_and_by_address() {
    let (mesh, _programs) = mesh("socks", "pass");
    let host = mesh.host(0);
    let vip = host.run("dig", ["@127.0.0.1", "-p", "5391", "+short", "db.mesh"]).stdout.trim().to_owned();
    let whole = "0\nwelcome\nhello\ngoodbye\n";
    // What is sent together with the request is the application's; its end is passed on as such.
    for (kind, to) in [
        ("name", "db.mesh"),
        ("name", "DB.default.mesh."),
        ("ipv4", &vip),
        ("ipv4", "10.78.0.2"),
        ("name", "10.78.0.2"),
    ] {
        let output = client(host, [CONNECT, kind, to, "3306", "hello\n"]);
        assert_eq!(output.stdout, whole, "{kind} {to}: {output:?}");
    }
    // A program speaks HTTP through it as without it, on one connection as often as it likes.
    for proxy in ["socks5h://127.0.0.1:4141", "socks5://127.0.0.1:4141"] {
        let to = if proxy.contains('h') && proxy.starts_with("socks5h") { "orders.mesh" } else { "10.78.0.2" };
        let url = format!("http://{to}/");
        let output = host.run(
            "curl",
            [
                "-s",
                "-x",
                proxy,
                "-w",
                "%{http_code} %{num_connects}\n",
                "-o",
                "/dev/null",
                "-o",
                "/dev/null",
                &url,
                &url,
            ],
        );
        assert_eq!(output.stdout, "200 1\n200 0\n", "{proxy}: {output:?}");
    }
    // Beyond the mesh: the other host's own port, and by its own family.
    let beyond = mesh.host(1).spawn(Program::new("python3").args(["-c", GREETER, "10.78.0.2", "3310"]));
    wait_until(SOON, "it is passed on", || {
        client(host, [CONNECT, "ipv4", "10.78.0.2", "3310", "hello\n"]).stdout == whole
    });
    drop(beyond);
}

#[test]
fn each_failure_has_its_code() {
    let (mesh, _programs) = mesh("socks-codes", "pass");
    let host = mesh.host(0);
    for (arguments, expected) in [
        ([CONNECT, "name", "nobody.mesh", "80", ""], "4"),
        ([CONNECT, "name", "a.b.c.mesh", "80", ""], "4"),
        ([CONNECT, "ipv4", "127.77.9.9", "80", ""], "4"),
        ([CONNECT, "name", "nobody.invalid", "80", ""], "4"),
        ([CONNECT, "name", "down.mesh", "3307", ""], "5"),
        ([CONNECT, "ipv4", "10.78.0.2", "9", ""], "5"),
        ([CONNECT, "ipv6", "2001:db8::1", "9", ""], "3"),
        ([CONNECT, "ipv4", "192.0.2.1", "9", ""], "3"),
        ([BIND, "ipv4", "10.78.0.2", "9", ""], "7"),
        ([UDP_ASSOCIATE, "ipv4", "0.0.0.0", "0", ""], "7"),
    ] {
        assert_eq!(code(host, arguments), expected, "{arguments:?}");
    }
}

#[test]
fn what_is_beyond_the_mesh_is_not_allowed_where_the_configuration_says_so() {
    let (mesh, _programs) = mesh("socks-refuse", "refuse");
    let host = mesh.host(0);
    assert_eq!(code(host, [CONNECT, "ipv4", "10.78.0.2", "3310", ""]), "2");
    assert_eq!(code(host, [CONNECT, "ipv4", "127.0.0.1", "4191", ""]), "2");
    assert_eq!(client(host, [CONNECT, "name", "db.mesh", "3306", ""]).stdout, "0\nwelcome\ngoodbye\n");
}
