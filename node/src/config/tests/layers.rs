use super::*;

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = Files::new("").load().unwrap().config;
    assert_eq!(config.node.name, "this-host");
    assert_eq!(config.node.shards.get(), 4);
    assert_eq!(config.node.data_dir, PathBuf::from("/var/lib/starling"));
    assert_eq!(config.mesh.address().quic().to_string(), "10.0.0.9:7947");
    assert_eq!(config.mesh.bind, config.mesh.advertise);
    assert_eq!(config.mesh.carriers, Carriers::Both);
    assert_eq!(config.admin.socket, PathBuf::from("/run/starling/admin.sock"));
    assert_eq!(config.admin.listen, Some(Listen { address: default::ADMIN_LISTEN, given: false }));
    assert_eq!((config.dns.suffix.as_str(), config.dns.vip_range.to_string().as_str()), ("mesh", "127.77.0.0/16"));
    assert_eq!(config.proxy.http, Some(Listen { address: default::PROXY_HTTP, given: false }));
    assert_eq!(config.log.access, None);
    assert_eq!(config.defaults.timeout, Duration::from_secs(15));
}

const EVERY_KEY: &str = r#"
[node]
name = "web-1"
zone = "eu-1a"
data_dir = "data"
shards = 2
[mesh]
advertise = "10.0.0.1"
bind = "0.0.0.0"
gossip_port = 1
quic_port = 2
carrier = "tcp"
seeds = ["10.0.0.2:7947", "dns:starling-seeds:7947", "[fd00::2]:7947"]
[identity]
dir = "/id"
[admin]
socket = "admin.sock"
listen = "127.0.0.1:3"
[dns]
listen = "off"
suffix = "mesh.example"
vip_range = "127.78.0.0/20"
[proxy]
http = "127.0.0.1:4"
socks5 = "127.0.0.1:6"
[[service]]
name = "orders.shop"
address = "127.0.0.1:8080"
protocol = "tcp"
port = 80
labels = { version = "v1" }
user = "web"
cgroup = "/system.slice/web.service/"
[[listener]]
address = "127.0.0.1:9001"
service = "orders"
protocol = "http"
source = "web"
[capture]
listen = "127.0.0.1:5"
unknown = "refuse"
[[capture.namespace]]
path = "/run/netns/web"
source = "web"
[log]
level = "debug"
access = "access.log"
[telemetry]
otlp = "http://127.0.0.1:4318"
sampling = 1
[limits]
header_bytes = 8192
header_fields = 50
header_timeout = "5s"
body_timeout = "30s"
send_timeout = "2m"
idle_timeout = "1m"
streams = 100
flows = 10
flow_timeout = "1m"
[[ingress]]
address = "127.0.0.1:7"
trusted = ["10.0.0.0/8", "127.0.0.1"]
source = "web"
[[ingress.tls]]
cert = "shop.pem"
key = "shop.key"
[[ingress.route]]
host = "*.shop.example"
path = "/api"
service = "orders"
[[egress]]
name = "payments"
address = "api.example.com:443"
tls = true
ca = "roots.pem"
protocol = "http2"
port = 80
[defaults]
timeout = "30s"
try_timeout = "250ms"
connect_timeout = "2s"
drain_timeout = "1m"
"#;

#[test]
fn every_key_of_the_schema_is_read() {
    let files = Files::new(EVERY_KEY);
    for section in schema::SECTIONS {
        assert!(EVERY_KEY.contains(&format!("[{}]", section.name)), "{}", section.name);
        for key in section.keys {
            let stands = [format!("{key} = "), format!("[[{}.{key}]]", section.name)];
            let stands = stands.iter().any(|text| EVERY_KEY.contains(text));
            assert!(stands, "{}.{key} is missing in this test", section.name);
        }
    }
    let config = files.load().unwrap().config;
    assert_eq!(config.node.data_dir, files.path("data"));
    assert_eq!(config.admin.socket, files.path("admin.sock"));
    assert_eq!(
        config.mesh.seeds,
        [
            Seed::Addr("10.0.0.2:7947".parse().unwrap()),
            Seed::Dns { name: "starling-seeds".to_owned(), port: 7947 },
            Seed::Addr("[fd00::2]:7947".parse().unwrap()),
        ]
    );
    assert_eq!(config.mesh.carriers, Carriers::Tcp);
    assert_eq!(config.dns.listen, None);
    assert_eq!(config.proxy.http, Some(Listen { address: "127.0.0.1:4".parse().unwrap(), given: true }));
    assert_eq!(
        config.services,
        [Service {
            name: "orders.shop".parse().unwrap(),
            address: "127.0.0.1:8080".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 80,
            labels: BTreeMap::from([("version".to_owned(), "v1".to_owned())]),
            user: Some(User::Name("web".to_owned())),
            cgroup: Some("/system.slice/web.service".into()),
        }]
    );
    let web: ServiceName = "web".parse().unwrap();
    assert_eq!(config.listeners[0].source, Some(web.clone()));
    assert_eq!(config.capture.unknown, Unknown::Refuse);
    assert_eq!(config.capture.namespaces, [Namespace { path: "/run/netns/web".into(), source: web }]);
    assert_eq!(config.listeners[0].protocol, Some(Protocol::Http));
    assert_eq!(config.log.access, Some(AccessLog::File(files.path("access.log"))));
    assert_eq!(config.log.level, LevelFilter::DEBUG);
    assert!((config.telemetry.sampling - 1.0).abs() < f64::EPSILON);
    assert_eq!(config.defaults.try_timeout, Duration::from_millis(250));
    assert_eq!(config.defaults.drain_timeout, Duration::from_mins(1));
    assert_eq!((config.limits.header_bytes, config.limits.streams), (8192, 100));
    assert_eq!(config.limits.idle_timeout, Duration::from_mins(1));
    let ingress = &config.ingresses[0];
    assert_eq!(ingress.tls, [(files.path("shop.pem"), files.path("shop.key"))]);
    assert_eq!(ingress.trusted, ["10.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()]);
    let IngressTo::Routes(routes) = &ingress.to else { panic!("{ingress:?}") };
    let told = (routes[0].host.to_string(), routes[0].path.to_string(), routes[0].service.to_string());
    assert_eq!(told, ("*.shop.example".to_owned(), "/api/".to_owned(), "orders".to_owned()));
    let egress = &config.egresses[0];
    assert_eq!((egress.host.as_str(), egress.host_port, egress.tls, egress.port), ("api.example.com", 443, true, 80));
    assert_eq!((egress.protocol, egress.authority()), (Protocol::Http2, "api.example.com".to_owned()));
}

#[test]
fn every_key_stands_in_the_guide() {
    let guide = include_str!("../../../../docs/configuration.md");
    for section in schema::SECTIONS {
        for key in section.keys {
            let path = format!("`{}.{key}`", section.name);
            assert!(guide.contains(&path), "docs/configuration.md says nothing of {path}");
        }
    }
}

#[test]
fn a_later_source_wins_and_services_add_up() {
    let files = Files::new("[node]\nname = 'main'\nzone = 'main'\n[[service]]\nname = 'a'\naddress = '127.0.0.1:1'")
        .with("conf.d/20.toml", "[node]\nname = 'twenty'\n[[service]]\nname = 'b'\naddress = '127.0.0.1:2'")
        .with("conf.d/10.toml", "[node]\nname = 'ten'\n[log]\nlevel = 'debug'")
        .with("conf.d/notes.txt", "no TOML")
        .with("conf.d/.hidden.toml", "no TOML");
    let config = files.load().unwrap().config;
    assert_eq!((config.node.name.as_str(), config.node.zone.as_str()), ("twenty", "main"));
    assert_eq!(config.log.level, LevelFilter::DEBUG);
    assert_eq!(config.services.iter().map(|service| service.name.name()).collect::<Vec<_>>(), ["a", "b"]);

    let sources = Sources {
        env: [
            ("STARLING_NODE_NAME", "env"),
            ("STARLING_NODE_ZONE", "env"),
            ("STARLING_MESH_GOSSIP_PORT", "9999"),
            ("STARLING_MESH_SEEDS", "10.0.0.2:7947, dns:seeds:7947"),
            ("STARLING_TELEMETRY_SAMPLING", "0.5"),
            ("STARLING_ADMIN", "/elsewhere.sock"),
            ("STARLING_BIN", "target/debug/starling"),
            ("STARLING_TEST_ROLE", "caller"),
            ("PATH", "/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        set: vec!["node.name=flag".to_owned(), "node.shards=3".to_owned()],
        ..files.sources()
    };
    let config = load(&sources, &host()).unwrap().config;
    assert_eq!((config.node.name.as_str(), config.node.zone.as_str()), ("flag", "env"));
    assert_eq!(config.node.shards.get(), 3);
    assert_eq!((config.mesh.gossip_port, config.mesh.seeds.len()), (9999, 2));
    assert!((config.telemetry.sampling - 0.5).abs() < f64::EPSILON);
}

#[test]
fn what_kubernetes_puts_into_the_environment_is_no_key() {
    let names = [
        ("STARLING_SERVICE_HOST", "10.0.0.1"),
        ("STARLING_SERVICE_PORT", "7947"),
        ("STARLING_SERVICE_PORT_QUIC", "7947"),
        ("STARLING_PORT", "udp://10.0.0.1:7947"),
        ("STARLING_PORT_7947_UDP_ADDR", "10.0.0.1"),
        ("STARLING_SEEDS_SERVICE_HOST", "10.0.0.1"),
        ("STARLING_SEEDS_PORT_7947_UDP", "udp://10.0.0.1:7947"),
    ];
    let env = names.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let files = Files::new("");
    assert!(load(&Sources { env, ..files.sources() }, &host()).is_ok());
}

#[test]
fn what_a_flag_or_a_variable_gets_wrong_hides_no_mistake_of_a_file() {
    let files = Files::new("[node]\nshards = 0\n[meshh]\n");
    let set = vec!["node.nmae=x".to_owned(), "mesh.seeds=foo".to_owned()];
    let env = vec![("STARLING_NODE_ZNOE".to_owned(), "x".to_owned())];
    let error = load(&Sources { env, set, ..files.sources() }, &host()).unwrap_err().to_string();
    for mistake in ["'nmae'", "mesh.seeds", "'znoe'", "node.shards", "meshh"] {
        assert!(error.contains(mistake), "{mistake}: {error}");
    }
    assert_eq!(
        load(&Sources { set: vec!["node.nmae=x".to_owned()], ..Files::new("").sources() }, &host())
            .unwrap_err()
            .problems()
            .len(),
        1
    );
}

#[test]
fn variables_and_flags_that_name_no_key_are_errors() {
    let cases = [
        ("STARLING_NODE_NMAE", "x", "STARLING_NODE_NMAE: node has no key 'nmae'\n  hint: did you mean 'name'?"),
        ("STARLING_NOD_NAME", "x", "STARLING_NOD_NAME: no section is called 'nod'\n  hint: did you mean 'node'?"),
        (
            "STARLING_SERVICE_NAME",
            "x",
            "STARLING_SERVICE_NAME: a [[service]] cannot be set here\n  hint: write it into a file, for example beside \
             the main one in conf.d/",
        ),
        (
            "STARLING_MESH_QUIC_PORT",
            "many",
            "STARLING_MESH_QUIC_PORT: mesh.quic_port: 'many' is not a whole number\n  hint: write a number from 1 to \
             65535, without quotes",
        ),
    ];
    let files = Files::new("");
    for (name, value, expected) in cases {
        let env = vec![(name.to_owned(), value.to_owned())];
        let error = load(&Sources { env, ..files.sources() }, &host()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    for (flag, expected) in [
        ("node.name", "--set: 'node.name' is not KEY=VALUE\n  hint: write --set node.zone=eu-1a"),
        ("node.nam=x", "--set: node has no key 'nam'\n  hint: did you mean 'name'?"),
        (
            "dns.listen=53",
            "--set: dns.listen: '53' is not an address\n  hint: did you mean \"127.0.0.1:53\"? (\"off\" for none)",
        ),
    ] {
        let set = vec![flag.to_owned()];
        let error = load(&Sources { set, ..files.sources() }, &host()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_file_that_is_named_must_be_there_and_the_usual_one_only_if_nothing_else_is_said() {
    let files = Files::new("");
    let sources = Sources { file: Some(files.path("none.toml")), ..Sources::default() };
    let error = load(&sources, &host()).unwrap_err();
    assert_eq!(error.problems().len(), 1);
    assert!(error.to_string().contains("none.toml: cannot be read: No such file"), "{error}");
    assert!(error.to_string().ends_with("hint: name the file with -c FILE; `starling demo` needs none"), "{error}");
}

#[test]
fn without_a_default_route_the_address_must_be_given() {
    let host = Host { address: None, ..host() };
    let files = Files::new("[mesh]\nseeds = []\n");
    let error = load(&files.sources(), &host).unwrap_err();
    assert!(error.to_string().contains("starling.toml: mesh.advertise: is missing, and this host"), "{error}");
}

struct Paper(&'static str);

impl Certificate for Paper {
    fn node_name(&self) -> &'static str {
        self.0
    }

    fn may_run(&self, service: &ServiceName) -> bool {
        service.name() == "web"
    }

    fn services(&self) -> String {
        "ns/default/svc/web".to_owned()
    }
}

#[test]
fn the_certificate_names_a_node_that_names_itself_not_at_all() {
    let mut loaded = Files::new("").load().unwrap();
    loaded.attest(&Paper("web-1")).unwrap();
    assert_eq!(loaded.config.node.name, "web-1");
}

#[test]
fn what_the_certificate_does_not_allow_is_an_error_with_its_key() {
    let files = Files::new(
        "[node]\nname = 'web-2'\n[[service]]\nname = 'web'\naddress = '127.0.0.1:1'\n[[service]]\nname = \
         'orders'\naddress = '127.0.0.1:2'",
    );
    let error = files.load().unwrap().attest(&Paper("web-1")).unwrap_err().to_string();
    let error = error.replace(&format!("{}/", files.0.path().display()), "");
    assert_eq!(
        error,
        "starling.toml:2: node.name: 'web-2' is not the name in the certificate, 'web-1'\n  hint: write that name, or \
         issue a certificate for this one\nstarling.toml:7: service[1].name: the certificate does not let this node run \
         'orders'; it names ns/default/svc/web\n  hint: issue it anew with all its \
         services: starling ca issue --name web-1 --service orders (and one --service for each other) --dir CA --out \
         /etc/starling/identity --force"
    );
}

#[test]
fn what_this_host_does_not_have_is_an_error_with_its_key() {
    let service = "[[service]]\nname = 'web'\naddress = '127.0.0.1:1'\nuser = 'nobody-of-this-name'\n";
    let namespace = "[[capture.namespace]]\npath = '/nonexistent/netns'\nsource = 'web'\n";
    let error = Files::new(&format!("{service}{namespace}")).load().unwrap().check_here().unwrap_err().to_string();
    assert!(error.contains("service[0].user: this host has no user 'nobody-of-this-name'"), "{error}");
    assert!(error.contains("capture.namespace[0].path: '/nonexistent/netns' cannot be opened"), "{error}");
    assert_eq!(Files::new(&service.replace("'nobody-of-this-name'", "0")).load().unwrap().check_here(), Ok(()));
}

#[test]
fn a_source_that_the_certificate_does_not_name_is_an_error_with_its_key() {
    let listener = "[[listener]]\naddress = '127.0.0.1:1'\nservice = 'orders'\nsource = 'api'\n";
    let mut loaded = Files::new(listener).load().unwrap();
    let error = loaded.attest(&Paper("this-host")).unwrap_err().to_string();
    assert!(error.contains("listener[0].source: the certificate does not let this node speak for 'api'"), "{error}");
}
