"""h2load and wrk: no request fails, over HTTP/1.1 and HTTP/2.

A case passes if each request got a 2xx answer and no connection was cut: over one connection, over many, over streams beside each other, and
with a new connection for each request.
"""
import re

import install
from outcomes import FAILED, PASSED, Outcome
from pair import Service
from processes import ended
from servers import nginx

PROGRAMS = ["h2load:nghttp2-client", "wrk:wrk", "nginx:nginx"]
LIMIT_S = 120
SECONDS = 3


def run(kit):
    h1, root = nginx(kit)
    servers = {"h1": h1, "h2": nginx(kit, h2=True, root=root)[0]}
    measured = {}
    with kit.pair(Service("h1", servers["h1"]), Service("h2", servers["h2"], "http2")) as pair:
        for caller in servers:
            direct = kit.directly(lambda c=caller: load(servers[c], c))
            for server in servers:
                measured[caller, server] = direct, kit.through(lambda c=caller, s=server: load(pair.way(s), c))
    version = f"{install.debian('nghttp2-client')}, {install.debian('wrk')}"
    for (caller, server), (direct, through) in measured.items():
        kit.row("h2load and wrk", version, f"listener, {caller} to {server}", direct, through, pinned=False)


def load(place, spoken):
    url = f"http://{place[0]}:{place[1]}"
    return {**(wrk(url) if spoken == "h1" else {}), **h2load(url, spoken)}


def h2load(url, spoken):
    """Counts of requests, so that all of them have an end."""
    plain = ["--h1"] if spoken == "h1" else []
    cases = {
        "one connection": ["-n", "500", "-c", "1", "-m", "1"],
        "ten at once": ["-n", "1000", "-c", "10", "-m", "1"],
        "many streams beside each other": ["-n", "2000", "-c", "4", "-m", "100"],
        "large answers": ["-n", "4", "-c", "2", "-m", "2"],
    }
    outcomes = {}
    for name, words in cases.items():
        path = "/large.bin" if name == "large answers" else "/small.txt"
        done = ended(["h2load", *plain, *words, f"{url}{path}"], 60)
        told = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
        good = told and told[1] == told[3] and told[4] == told[5] == told[6] == "0"
        outcomes[f"h2load: {name}"] = Outcome(PASSED if good else FAILED, told[0] if told else (done.stdout + done.stderr)[-300:])
    return outcomes


def wrk(url):
    """Loads of a few seconds, of which no request may fail."""
    cases = {"ten connections": [], "a new connection for each request": ["-H", "Connection: close"]}
    outcomes = {}
    for name, words in cases.items():
        done = ended(["wrk", "-t", "2", "-c", "10", "-d", f"{SECONDS}s", *words, f"{url}/small.txt"], SECONDS + 20)
        bad = re.findall(r"(?:Socket errors|Non-2xx).*", done.stdout)
        good = done.returncode == 0 and not bad and "Requests/sec" in done.stdout
        outcomes[f"wrk: {name}"] = Outcome(PASSED if good else FAILED, " ".join(bad) or done.stderr[-300:])
    return outcomes
