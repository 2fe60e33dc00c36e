"""Datagrams: an echo of all sizes, and real DNS by dig through the mesh's UDP.

The echo answers datagrams from one byte to the largest there are, of one program and of fifty side by side. dnsmasq is a service of protocol
udp: dig and dnsperf ask it at a listener, and each answer is the same as directly.
"""
import re

import install
from kit import HERE
from outcomes import FAILED, PASSED, Outcome
from pair import Service
from processes import ended, until
from suites.dns import PASSED_ON, ZONE, ask

PROGRAMS = ["dig:bind9-dnsutils", "dnsmasq:dnsmasq-base", "dnsperf:dnsperf"]
LIMIT_S = 60
# A service of datagrams has no TCP beside it here.
ASKED = {name: words for name, words in PASSED_ON.items() if "TCP" not in name}


def run(kit):
    echo, dns = kit.places.place(), kit.places.place()
    kit.start("echo", ["python3", HERE / "clients/udp_echo.py", *echo])
    where = ["--no-daemon", "--no-resolv", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null", "--pid-file=", "--user="]
    listen = [f"--listen-address={dns[0]}", f"--port={dns[1]}", "--except-interface=none"]
    server = kit.start("dnsmasq", [install.find("dnsmasq"), *where, *listen, *ZONE])
    until("dnsmasq answers", lambda: ask(dns, "one.test", "A")["status"] == "NOERROR", 20, server)
    direct = kit.directly(lambda: (cases(kit, echo), questions(kit, dns, dns)))
    through = None
    if kit.mesh_wanted:
        with kit.pair(Service("echo", echo, "udp", listener="udp"), Service("names", dns, "udp", listener="udp")) as pair:
            through = cases(kit, pair.way("echo")), questions(kit, dns, pair.way("names"))
    kit.row("UDP echo", "our own", "listener, udp", direct and direct[0], through and through[0])
    version = f"{install.debian('bind9-dnsutils')}, {install.debian('dnsperf')}"
    kit.row("dig and dnsperf with dnsmasq", version, "listener, udp", direct and direct[1], through and through[1], pinned=False)


def cases(kit, place):
    return kit.cases("udp_cases.py", *place, program="python3")


def questions(kit, server, place):
    """Answers through the mesh beside those of the server itself."""
    outcomes = {}
    for name, words in ASKED.items():
        wanted, found = ask(server, *words), ask(place, *words)
        alike = found["status"] and all(wanted[part] == found[part] for part in ("status", "truncated", "ANSWER"))
        outcomes[name] = Outcome(PASSED if alike else FAILED, f"{found['status']} {found['ANSWER']}"[:300])
    file = kit.directory("dnsperf") / "questions"
    file.write_text("one.test A\none.test AAAA\ntext.test TXT\nmany.test A\n")
    done = ended(["dnsperf", "-s", place[0], "-p", place[1], "-d", file, "-Q", "500", "-c", "5", "-q", "20", "-l", "3"], 30)
    lost = re.search(r"Queries lost:\s+(\d+) ", done.stdout)
    answered = re.search(r"Response codes:\s+NOERROR (\d+) \(100", done.stdout)
    good = lost and lost[1] == "0" and answered
    outcomes["dnsperf loses nothing at 500 a second"] = Outcome(PASSED if good else FAILED, (done.stdout + done.stderr)[-300:])
    return outcomes
