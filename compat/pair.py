"""Two nodes: programs are behind b, callers beside a."""
import json
import re
from dataclasses import dataclass

from processes import Trouble, ended, run, until

GOSSIP, QUIC, PROXY, SOCKS, DNS, FIRST_LISTENER = 7946, 7947, 4140, 4141, 5391, 9001


@dataclass
class Service:
    """What b offers, and a has a listener to."""

    name: str
    place: tuple
    protocol: str = "http"
    port: int = 80
    # What the listener speaks with callers; None: as the service.
    listener: str | None = None


class Pair:
    """A mesh of two agents; a context that ends with both."""

    def __init__(self, kit, services, resolver=None):
        """`resolver`: the one that node a finds in its resolv.conf, behind itself; takes root."""
        self.kit, self.services, self.resolver = kit, services, resolver
        self.ends = []
        self.dir = kit.directory("pair")
        self.address, self.vips = kit.places.address()
        self.other, other_vips = kit.places.address()
        names = [arg for service in services for arg in ("--service", service.name)]
        self.issue("a", ["--service", "caller"], self.address, self.vips, self.out())
        self.issue("b", names, self.other, other_vips, self.offered())

    def issue(self, name, services, address, vips, more):
        """Files of a node, made as a user would."""
        at = self.dir / name
        at.mkdir()
        ca = self.kit.authority()
        run([self.kit.starling, "ca", "issue", "--dir", ca, "--name", name, *services, "--out", at / "identity"])
        off = "off" if name == "b" else None
        text = (
            f'[node]\nname = "{name}"\ndata_dir = "{at}/data"\n'
            f'[mesh]\nadvertise = "{address}"\ngossip_port = {GOSSIP}\nquic_port = {QUIC}\nseeds = ["{self.address}:{QUIC}"]\n'
            f'[identity]\ndir = "{at}/identity"\n[admin]\nsocket = "{at}/admin.sock"\nlisten = "off"\n'
            f'[dns]\nlisten = "{off or f"{address}:{DNS}"}"\nvip_range = "{vips}"\n[capture]\nlisten = "off"\n'
            f'[proxy]\nhttp = "{off or f"{address}:{PROXY}"}"\n'
            f'socks5 = "{off or f"{address}:{SOCKS}"}"\n'
            f'[log]\naccess = "{at}/access.log"\n'
        )
        (at / "starling.toml").write_text(text + more)

    def offered(self):
        return "".join(
            f'[[service]]\nname = "{one.name}"\naddress = "{one.place[0]}:{one.place[1]}"\n'
            f'protocol = "{one.protocol}"\nport = {one.port}\n'
            for one in self.services
        )

    def out(self):
        lines = []
        for port, one in enumerate(self.services, FIRST_LISTENER):
            protocol = f'protocol = "{one.listener}"\n' if one.listener else ""
            lines.append(f'[[listener]]\naddress = "{self.address}:{port}"\nservice = "{one.name}"\n{protocol}')
        return "".join(lines)

    def __enter__(self):
        self.nodes = {name: self.start(name) for name in "ab"}
        for name in "ab":
            self.ask(name, ["check", "--wait", "--timeout", "40s"], limit_s=45)
        for service in self.services:
            until(f"an endpoint of {service.name} is ready", lambda: self.ready(service.name), 30, self.nodes["a"])
        return self

    def start(self, name):
        around = self.with_resolver() if name == "a" and self.resolver else []
        return self.kit.processes.start(f"node-{name}", [*around, self.kit.starling, "agent", "-c", self.dir / name / "starling.toml"])

    def with_resolver(self):
        """Arguments that have a program see a resolv.conf of its own, as `starling capture install` leaves it."""
        file = self.dir / "resolv.conf"
        ours = "# starling begin: `starling capture uninstall` removes these lines\nnameserver 127.77.0.53\n# starling end\n"
        file.write_text(f"{ours}nameserver {self.resolver}\n")
        return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', file]

    def ask(self, name, words, limit_s=20):
        """What a verb says of a node."""
        if not self.nodes[name].running():
            raise Trouble(f"node {name} ended:\n{self.nodes[name].tail()}")
        done = ended([self.kit.starling, *words, "--admin", self.dir / name / "admin.sock"], limit_s)
        if done.returncode != 0:
            raise Trouble(f"starling {' '.join(words)} at {name}: {done.stdout}{done.stderr}\n{self.nodes[name].tail()}")
        return done.stdout

    def ready(self, service):
        done = ended([self.kit.starling, "endpoints", service, "-o", "json", "--admin", self.dir / "a/admin.sock"], 20)
        if done.returncode != 0:
            return False
        return any(endpoint["state"] == "ready" for endpoint in json.loads(done.stdout))

    def __exit__(self, *_):
        """Both end as SIGTERM has them, the callers' first; what they did wrong on the way is kept."""
        for name in "ab":
            node = self.nodes[name]
            alive = node.running()
            status = self.kit.processes.stop(node)
            if not alive or status not in (0, 1):
                self.ends.append(f"node {name} ended with {status} {'on SIGTERM' if alive else 'by itself'}: {node.tail(5)}")
            panics = re.findall(r".*panicked.*", node.log.read_text(errors="replace"))
            self.ends.extend(f"node {name}: {line}" for line in panics[:3])
        self.kit.ends.extend(self.ends)

    def way(self, name):
        """Where callers of this service connect to."""
        index = [service.name for service in self.services].index(name)
        return self.address, FIRST_LISTENER + index

    @property
    def proxy(self):
        return self.address, PROXY

    @property
    def socks5(self):
        return self.address, SOCKS

    @property
    def dns(self):
        return self.address, DNS
