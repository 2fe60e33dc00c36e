use super::*;

/// Each file, and what a user is told.
const CASES: &[(&str, &str)] = &[
    ("[node]\nnmae = 'a'", "starling.toml:2: node.nmae: unknown key\n  hint: did you mean 'name'?"),
    ("[nodes]\nname = 'a'", "starling.toml:1: nodes: unknown section\n  hint: did you mean [node]?"),
    ("[services]\nname = 'a'", "starling.toml:1: services: unknown section\n  hint: did you mean [[service]]?"),
    ("zone = 'a'", "starling.toml:1: zone: unknown key\n  hint: did you mean node.zone?"),
    ("[mesh]\nzone = 'a'", "starling.toml:2: mesh.zone: unknown key\n  hint: did you mean node.zone?"),
    (
        "[mesh]\nflavour = 'a'",
        "starling.toml:2: mesh.flavour: unknown key\n  hint: known here: advertise, bind, gossip_port, quic_port, \
         carrier, seeds",
    ),
    (
        "node = 'web-1'",
        "starling.toml:1: node: expected a section, found text\n  hint: write [node] and its keys in the lines below it",
    ),
    (
        "[service]\nname = 'a'",
        "starling.toml:1: service: expected [[service]], found a table\n  hint: write [[service]] and its keys in the \
         lines below it",
    ),
    (
        "[node]\nname = 'a b'",
        "starling.toml:2: node.name: 'a b' is not a node name: 1 to 63 of a-z, A-Z, 0-9, '.', '-' and '_', not starting \
         with '.' or '-'\n  hint: set node.name to the name that the certificate was issued for",
    ),
    (
        "[[service]]\nname = 'orders.mesh'\naddress = '127.0.0.1:8080'",
        "starling.toml:2: service[0].name: 'orders.mesh' would be service orders in a namespace called mesh\n  hint: did you \
         mean \"orders\"? .mesh is dns.suffix, for callers to append",
    ),
    (
        "[[listener]]\naddress = '127.0.0.1:9001'\nservice = 'orders.mesh'",
        "starling.toml:3: listener[0].service: 'orders.mesh' would be service orders in a namespace called mesh\n  hint: did \
         you mean \"orders\"? .mesh is dns.suffix, for callers to append",
    ),
    (
        "[mesh]\n[mesh]",
        "starling.toml:2: not valid TOML: duplicate key\n  hint: a key stands once in a section, and a section once in a \
         file; [[service]] and [[listener]] may stand often",
    ),
    ("[node]\nname = 7", "starling.toml:2: node.name: expected text, found a number\n  hint: put it in quotes"),
    ("[node]\nzone = ''", "starling.toml:2: node.zone: is empty\n  hint: leave the key out to get the default"),
    ("[node]\nshards = 0", "starling.toml:2: node.shards: 0 is out of range\n  hint: write a number from 1 to 256"),
    (
        "[mesh]\nadvertise = '0.0.0.0'",
        "starling.toml:2: mesh.advertise: nobody can be reached at 0.0.0.0\n  hint: write an address of this host; to \
         listen on all of them set mesh.bind",
    ),
    (
        "[mesh]\nadvertise = '10.0.0.1:7946'",
        "starling.toml:2: mesh.advertise: '10.0.0.1:7946' is not an IP address\n  hint: write the address alone, \
         \"10.0.0.1\"; ports are mesh.gossip_port and mesh.quic_port",
    ),
    (
        "[mesh]\nbind = '::'",
        "starling.toml:2: mesh.bind: :: is not of the same family as mesh.advertise, 10.0.0.9\n  hint: write both as \
         IPv4 or both as IPv6",
    ),
    (
        "[mesh]\nadvertise = '127.0.0.1'\nseeds = ['10.0.0.2:7947']",
        "starling.toml:2: mesh.advertise: the seed 10.0.0.2:7947 is another host, which cannot reach 127.0.0.1\n  hint: \
         write the address where others reach this node",
    ),
    (
        "[mesh]\nquic_port = 70000",
        "starling.toml:2: mesh.quic_port: 70000 is out of range\n  hint: write a number from 1 to 65535",
    ),
    (
        "[mesh]\nquic_port = '7947'",
        "starling.toml:2: mesh.quic_port: '7947' is not a whole number\n  hint: write a number from 1 to 65535, without \
         quotes",
    ),
    (
        "[mesh]\nquic_port = 7946",
        "starling.toml:2: mesh.quic_port: 10.0.0.9:7946 over UDP is taken by mesh.gossip_port, by default \
         (starling.toml)\n  hint: choose another port for one of them",
    ),
    (
        "[mesh]\nbind = '127.0.0.1'\nadvertise = '127.0.0.1'\n[proxy]\nhttp = '127.0.0.1:7947'",
        "starling.toml:5: proxy.http: 127.0.0.1:7947 over TCP is taken by mesh.quic_port, by default (starling.toml)\n  \
         hint: choose another port for one of them",
    ),
    (
        "[mesh]\ncarrier = 'udp'",
        "starling.toml:2: mesh.carrier: 'udp' is no carrier\n  hint: write \"auto\" (QUIC, and TCP where UDP does not pass), \
         \"quic\" or \"tcp\"",
    ),
    (
        "[mesh]\nseeds = '10.0.0.2:7947'",
        "starling.toml:2: mesh.seeds: expected a list, found text\n  hint: write it as [\"…\", \"…\"]",
    ),
    (
        "[mesh]\nseeds = [\n  '10.0.0.2',\n  'seed:7947',\n  'dns:seed',\n  '[::]:1',\n  '?',\n]",
        "starling.toml:3: mesh.seeds[0]: '10.0.0.2' is not a seed\n  hint: did you mean \"10.0.0.2:7947\"?\n\
         starling.toml:4: mesh.seeds[1]: 'seed:7947' is not a seed\n  hint: a name is written with dns: in front: did you \
         mean \"dns:seed:7947\"?\n\
         starling.toml:5: mesh.seeds[2]: 'dns:seed' has no port\n  hint: did you mean \"dns:seed:7947\"?\n\
         starling.toml:6: mesh.seeds[3]: nobody can be reached at '[::]:1'\n  hint: write \"10.0.0.2:7947\", \
         \"[fd00::2]:7947\" or \"dns:NAME:7947\" (the QUIC port of a node)\n\
         starling.toml:7: mesh.seeds[4]: '?' is not a seed\n  hint: write \"10.0.0.2:7947\", \"[fd00::2]:7947\" or \
         \"dns:NAME:7947\" (the QUIC port of a node)",
    ),
    (
        "[admin]\nlisten = 4191",
        "starling.toml:2: admin.listen: 4191 is not an address\n  hint: did you mean \"127.0.0.1:4191\"? (\"off\" for \
         none)",
    ),
    (
        "[dns]\nlisten = 'localhost:53'",
        "starling.toml:2: dns.listen: 'localhost:53' is not an address\n  hint: names are not looked up here: did you \
         mean \"127.0.0.1:53\"? (\"off\" for none)",
    ),
    (
        "[dns]\nsuffix = '.Mesh'",
        "starling.toml:2: dns.suffix: '.Mesh' is not usable as a suffix\n  hint: did you mean \"mesh\"?",
    ),
    (
        "[dns]\nvip_range = '10.77.0.0/16'",
        "starling.toml:2: dns.vip_range: '10.77.0.0/16' is not loopback: other hosts could own it\n  hint: write a part \
         of 127.0.0.0/8 that no program uses, such as \"127.77.0.0/16\"",
    ),
    (
        "[dns]\nvip_range = '127.77.3.0/16'",
        "starling.toml:2: dns.vip_range: '127.77.3.0/16' is no start of a range\n  hint: did you mean \"127.77.0.0/16\"?",
    ),
    (
        "[dns]\nvip_range = '127.0.0.0/16'",
        "starling.toml:2: dns.vip_range: '127.0.0.0/16' takes in 127.0.0.0/24, which the host itself uses\n  hint: \
         write a part of 127.0.0.0/8 that no program uses, such as \"127.77.0.0/16\"",
    ),
    (
        "[proxy]\nsocks5 = '127.0.0.1:4140'",
        "starling.toml:2: proxy.socks5: 127.0.0.1:4140 over TCP is taken by proxy.http, by default (starling.toml)\n  \
         hint: choose another port for one of them",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1:1'\ncgroup = '/sys/fs/cgroup/a'",
        "starling.toml:4: service[0].cgroup: '/sys/fs/cgroup/a' is a path of files\n  hint: did you mean \"/a\"?",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1:1'\nuser = -1",
        "starling.toml:4: service[0].user: -1 is no user\n  hint: write a user's name or number, such as \"web\" or 1000",
    ),
    (
        "[capture]\nunknown = 'drop'",
        "starling.toml:2: capture.unknown: 'drop' is neither of the two words\n  hint: write \"pass\" or \"refuse\"",
    ),
    (
        "[[capture.namespace]]\npath = '/run/netns/web'",
        "starling.toml:1: capture.namespace[0].source: is missing\n  hint: write whose programs run there, such as \
         source = \"web\"",
    ),
    (
        "[proxy]\nhttp = '127.0.0.1:4191'",
        "starling.toml:2: proxy.http: 127.0.0.1:4191 over TCP is taken by admin.listen, by default (starling.toml)\n  \
         hint: choose another port for one of them",
    ),
    (
        "[[service]]\nname = 'a'\n[[service]]\naddress = '127.0.0.1:1'",
        "starling.toml:1: service[0].address: is missing\n  hint: write where it listens, such as address = \
         \"127.0.0.1:8080\"\n\
         starling.toml:3: service[1].name: is missing\n  hint: write the name that callers use, such as name = \"orders\"",
    ),
    (
        "[[service]]\nname = 'a'\nadress = '127.0.0.1:1'",
        "starling.toml:3: service[0].adress: unknown key\n  hint: did you mean 'address'?",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '8080'",
        "starling.toml:3: service[0].address: '8080' is not an address\n  hint: did you mean \"127.0.0.1:8080\"?",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '0.0.0.0:80'",
        "starling.toml:3: service[0].address: 0.0.0.0:80 is no address to connect to\n  hint: did you mean \
         \"127.0.0.1:80\"?",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1'",
        "starling.toml:3: service[0].address: '127.0.0.1' is not an address\n  hint: the port is missing: \
         \"127.0.0.1:PORT\"",
    ),
    (
        "[[service]]\nname = 'My_Shop'\naddress = '127.0.0.1:1'",
        "starling.toml:2: service[0].name: 'My_Shop' is not a DNS label: 1 to 63 of a-z, 0-9 and '-', not starting or \
         ending with '-'\n  hint: did you mean \"my-shop\"?",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1:1'\nprotocol = 'mysql'",
        "starling.toml:4: service[0].protocol: 'mysql' is not a protocol\n  hint: write one of http, http2, grpc, tcp, \
         udp, detect",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1:1'\nprotocol = 'htpp'",
        "starling.toml:4: service[0].protocol: 'htpp' is not a protocol\n  hint: did you mean \"http\"?",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1:1'\nhealth = { http = '/' }",
        "starling.toml:4: service[0].health: is not supported yet by this version\n  hint: leave it out",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1:1'\nlabels = { v = 1 }",
        "starling.toml:4: service[0].labels: 'v': expected text, found a number\n  hint: write labels = { version = \
         \"v1\" }",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1:1'\n[[service]]\nname = 'a.default'\naddress = '127.0.0.1:2'",
        "starling.toml:5: service[1].name: 'a' is offered already by service[0].name (starling.toml:2)\n  hint: give it \
         another name; a node offers one instance of a service",
    ),
    (
        "[[service]]\nname = 'a'\naddress = '127.0.0.1:9001'\n[[listener]]\naddress = '0.0.0.0:9001'\nservice = 'b'",
        "starling.toml:3: service[0].address: 127.0.0.1:9001 is this node's own listener[0].address, not a program's\n  \
         hint: write where the program itself listens",
    ),
    (
        "[[listener]]\naddress = '127.0.0.1:1'\nservice = 'a'\n[[listener]]\naddress = '0.0.0.0:1'\nservice = 'b'",
        "starling.toml:5: listener[1].address: 0.0.0.0:1 over TCP is taken by listener[0].address (starling.toml:2)\n  \
         hint: choose another port for one of them",
    ),
    (
        "[[listener]]\naddress = '127.77.0.1:80'\nservice = 'a'",
        "starling.toml:2: listener[0].address: 127.77.0.1:80 lies in dns.vip_range, 127.77.0.0/16, whose addresses stand \
         for services\n  hint: write an address outside of it, such as 127.0.0.1",
    ),
    ("[log]\nlevel = 'inof'", "starling.toml:2: log.level: 'inof' is not a level\n  hint: did you mean \"info\"?"),
    (
        "[telemetry]\notlp = 'localhost:4318'",
        "starling.toml:2: telemetry.otlp: 'localhost:4318' is not an http URL\n  hint: write the collector's address, \
         such as \"http://127.0.0.1:4318\"",
    ),
    (
        "[telemetry]\nsampling = 1.5",
        "starling.toml:2: telemetry.sampling: 1.5 is out of range\n  hint: write a number from 0.0 (none) to 1.0 (all)",
    ),
    (
        "[telemetry]\nsampling = 'half'",
        "starling.toml:2: telemetry.sampling: 'half' is not a number\n  hint: write a number from 0.0 (none) to 1.0 \
         (all), without quotes",
    ),
    (
        "[defaults]\ndrain_timeout = -1",
        "starling.toml:2: defaults.drain_timeout: -1 is not a duration\n  hint: write a duration from \"1ms\" to \"24h\"",
    ),
    ("[defaults]\ntimeout = 15", "starling.toml:2: defaults.timeout: 15 has no unit\n  hint: did you mean \"15s\"?"),
    (
        "[defaults]\ntimeout = 'soon'",
        "starling.toml:2: defaults.timeout: 'soon' is not a duration\n  hint: write a number and a unit, such as \
         \"250ms\", \"15s\", \"2m\" or \"1h\"",
    ),
    (
        "[defaults]\ntimeout = '0s'",
        "starling.toml:2: defaults.timeout: '0s' is out of range\n  hint: write a duration from \"1ms\" to \"24h\"",
    ),
];

#[test]
fn every_error_names_its_file_its_line_its_key_and_a_hint() {
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|(file, expected)| {
            let told = Files::new(file).errors();
            (told != *expected).then(|| format!("--- file\n{file}\n--- expected\n{expected}\n--- told\n{told}\n"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_errors_of_all_files_come_at_once_in_their_order() {
    let files = Files::new("[node]\nnmae = 'a'\n[[service]]\nname = 'A'\naddress = 'b'\n")
        .with("conf.d/a.toml", "[[service]]\nname = 'c'\naddress = 'd'\n");
    let errors = files.errors();
    let heads: Vec<&str> = errors.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(
        heads,
        [
            "conf.d/a.toml:3: service[0].address: 'd' is not an address",
            "starling.toml:2: node.nmae: unknown key",
            "starling.toml:4: service[0].name: 'A' is not a DNS label: 1 to 63 of a-z, 0-9 and '-', not starting or \
             ending with '-'",
            "starling.toml:5: service[0].address: 'b' is not an address",
        ]
    );
}

#[test]
fn all_that_is_no_toml_is_told_with_its_line() {
    let errors = Files::new("[node\nname = 'a'\n[mesh]\nquic_port = \n").errors();
    assert!(errors.starts_with("starling.toml:1: not valid TOML: "), "{errors}");
    assert!(errors.contains("starling.toml:4: not valid TOML: "), "{errors}");
}
