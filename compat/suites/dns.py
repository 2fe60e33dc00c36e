"""Names of the mesh, asked with dig, and others passed on to a real server.

A, AAAA and SRV of services, names that are not, TTLs, TCP, EDNS, odd case and odd types; dnsmasq stands for the system's resolver
behind the node, and each of its answers must be the same through the node.
"""
import os
import re

import install
from outcomes import FAILED, PASSED, Outcome
from pair import Service
from processes import Trouble, ended, until

PROGRAMS = ["dig:bind9-dnsutils", "dnsmasq:dnsmasq-base"]
LIMIT_S = 60
ZONE = [
    "--address=/one.test/192.0.2.1", "--address=/one.test/2001:db8::1", "--txt-record=text.test,hello", "--cname=alias.test,one.test",
    "--mx-host=test,mail.test,10", "--srv-host=_web._tcp.test,one.test,80", "--local=/test/", "--host-record=many.test,192.0.2.7",
    *[f"--txt-record=large.test,{'x' * 200}-{number}" for number in range(12)],
]
# What both must answer alike: the node passes other zones on.
PASSED_ON = {
    "A": ["one.test", "A"], "AAAA": ["one.test", "AAAA"], "TXT": ["text.test", "TXT"], "MX": ["test", "MX"], "SRV": ["_web._tcp.test", "SRV"],
    "CNAME": ["alias.test", "CNAME"], "NXDOMAIN": ["none.test", "A"], "NODATA": ["text.test", "A"], "over TCP": ["one.test", "A", "+tcp"],
    "truncated, then TCP": ["large.test", "TXT", "+bufsize=512"], "EDNS with room": ["large.test", "TXT", "+bufsize=4096", "+ignore"],
    "without EDNS": ["one.test", "A", "+noedns"], "odd case": ["oNe.tEsT", "A"],
}


def run(kit):
    version = install.debian("bind9-dnsutils")
    if os.getuid() != 0:
        raise Trouble("only root may listen on port 53 and say which resolvers a node has: run as root")
    # Resolvers are named without a port.
    place = kit.places.address()[0], 53
    where = ["--no-daemon", "--no-resolv", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null", "--pid-file=", "--user=root"]
    listen = [f"--listen-address={place[0]}", "--except-interface=none"]
    server = kit.start("dnsmasq", [install.find("dnsmasq"), *where, *listen, *ZONE])
    until("dnsmasq answers", lambda: ask(place, "one.test", "A")["status"] == "NOERROR", 20, server)
    kit.row("dig, names of the mesh", version, "the node's DNS", *names(kit), pinned=False)
    direct = kit.directly(lambda: passed_on(place, place))
    through = None
    if kit.mesh_wanted:
        with kit.pair(Service("orders", kit.places.place()), resolver=place[0]) as pair:
            through = passed_on(place, pair.dns)
    kit.row("dig, other zones", version, "the node's DNS before dnsmasq", direct, through, pinned=False)


def passed_on(server, place):
    """Passes what is answered as the server itself does."""
    outcomes = {}
    for name, words in PASSED_ON.items():
        wanted, found = ask(server, *words), ask(place, *words)
        alike = all(wanted[part] == found[part] for part in ("status", "truncated", "ANSWER"))
        told = f"{found['status']} {found['truncated']} {found['ANSWER']}, not {wanted['status']} {wanted['truncated']} {wanted['ANSWER']}"
        outcomes[name] = Outcome(PASSED if alike and wanted["status"] else FAILED, told[:400])
    return outcomes


def names(kit):
    """Directly nobody knows these names: what is right is written here."""
    service = kit.places.place()
    with kit.pair(Service("orders", service, port=8080), Service("sessions.shop", service, "tcp", 6379)) as pair:
        outcomes = {}
        for name, case in MESH.items():
            try:
                case(pair)
                outcomes[name] = Outcome(PASSED)
            except (AssertionError, Trouble) as error:
                outcomes[name] = Outcome(FAILED, str(error))
    return {name: Outcome(PASSED) for name in MESH}, outcomes


def ask(place, *words):
    """Status, flags, sections and sizes of an answer."""
    done = ended(["dig", f"@{place[0]}", "-p", str(place[1]), "+tries=1", "+time=3", "+nocookie", *words], 20)
    status = re.search(r"status: (\w+)", done.stdout)
    sections = {name: section(done.stdout, name) for name in ("ANSWER", "AUTHORITY", "ADDITIONAL")}
    flags = re.search(r"flags: ([a-z ]*);", done.stdout)
    for found in sections["ANSWER"]:
        # A TTL counts down in caches; order is not promised.
        found[1] = "TTL" if "mesh." not in found[0].lower() else found[1]
    sections["ANSWER"].sort()
    return {"status": status and status[1], "truncated": "Truncated" in done.stdout or "tc" in (flags[1].split() if flags else []), "flags": flags and flags[1].split(), "text": done.stdout, **sections}


def section(text, name):
    found = re.search(rf";; {name} SECTION:\n(.*?)\n\n", text, re.S)
    return [line.split() for line in found[1].splitlines()] if found else []


def good(condition, answer):
    assert condition, re.sub(r"\s+", " ", answer["text"])[:400]


def address_of(pair, name="orders.mesh", *words):
    answer = ask(pair.dns, name, "A", *words)
    good(answer["status"] == "NOERROR" and len(answer["ANSWER"]) == 1, answer)
    return answer["ANSWER"][0]


def a_is_one_vip(pair):
    owner, _, _, kind, address = address_of(pair)
    assert (owner, kind) == ("orders.mesh.", "A") and address.startswith(pair.vips.rsplit(".", 1)[0]), address


def vip_is_stable(pair):
    assert len({address_of(pair)[4] for _ in range(20)}) == 1
    assert address_of(pair)[4] != address_of(pair, "sessions.shop.mesh")[4]


def aaaa_has_no_data(pair):
    answer = ask(pair.dns, "orders.mesh", "AAAA")
    good(answer["status"] == "NOERROR" and not answer["ANSWER"], answer)
    good([line[3] for line in answer["AUTHORITY"]] == ["SOA"], answer)


def srv_has_the_port(pair):
    for name, port in (("orders.mesh", "8080"), ("sessions.shop.mesh", "6379")):
        answer = ask(pair.dns, f"_{name.split('.')[0]}._tcp.{name}", "SRV")
        plain = ask(pair.dns, name, "SRV")
        ports = {line[6] for line in answer["ANSWER"] + plain["ANSWER"] if line[3] == "SRV"}
        good(ports == {port}, plain)


def unknown_is_nxdomain(pair):
    answer = ask(pair.dns, "nobody.mesh", "A")
    good(answer["status"] == "NXDOMAIN" and [line[3] for line in answer["AUTHORITY"]] == ["SOA"], answer)


def ttl_is_short(pair):
    assert 0 < int(address_of(pair)[1]) <= 60, address_of(pair)


def negative_ttl_is_short(pair):
    answer = ask(pair.dns, "nobody.mesh", "A")
    good(answer["AUTHORITY"] and int(answer["AUTHORITY"][0][1]) <= 60, answer)


def over_tcp(pair):
    assert address_of(pair, "orders.mesh", "+tcp") == address_of(pair)


def several_over_one_tcp_connection(pair):
    argv = ["dig", f"@{pair.dns[0]}", "-p", str(pair.dns[1]), "+tcp", "+keepopen", "+short"]
    done = ended([*argv, "orders.mesh", "A", "orders.mesh", "A", "sessions.shop.mesh", "A"], 20)
    assert len(done.stdout.split()) == 3, done.stdout


def case_is_kept_and_ignored(pair):
    assert address_of(pair, "OrDeRs.MeSh")[0].lower() == "orders.mesh."


def edns_is_answered_and_not_forced(pair):
    good("EDNS: version: 0" in ask(pair.dns, "orders.mesh", "A", "+edns=0")["text"], ask(pair.dns, "orders.mesh", "A"))
    plain = ask(pair.dns, "orders.mesh", "A", "+noedns")
    good("EDNS" not in plain["text"] and plain["ANSWER"], plain)


def unknown_edns_version_is_badvers(pair):
    answer = ask(pair.dns, "orders.mesh", "A", "+edns=5", "+noednsneg")
    good(answer["status"] == "BADVERS", answer)


def other_types_have_no_data(pair):
    for kind in ("TXT", "MX", "TYPE65", "CAA"):
        answer = ask(pair.dns, "orders.mesh", kind)
        good(answer["status"] == "NOERROR" and not answer["ANSWER"], answer)


def answer_is_authoritative(pair):
    answer = ask(pair.dns, "orders.mesh", "A")
    good("aa" in answer["flags"] and "qr" in answer["flags"], answer)


MESH = {
    function.__name__.replace("_", " "): function
    for function in (
        a_is_one_vip, vip_is_stable, aaaa_has_no_data, srv_has_the_port, unknown_is_nxdomain, ttl_is_short, negative_ttl_is_short, over_tcp,
        several_over_one_tcp_connection, case_is_kept_and_ignored, edns_is_answered_and_not_forced, unknown_edns_version_is_badvers,
        other_types_have_no_data, answer_is_authoritative,
    )
}
