"""Small cases of our own: half-close, a server that speaks first, server-sent events, long polls, 1xx, trailers, cut bodies.

No suite above covers them. TCP's cases run over a listener of opaque TCP and over one that detects what is spoken.
"""
from kit import HERE
from pair import Service
from processes import accepts, until

PROGRAMS = []
LIMIT_S = 90


def run(kit):
    address = kit.places.place()[0]
    ports = 18080, 18081, 18082
    server = kit.start("edges", ["python3", HERE / "clients/edge_server.py", address, *ports])
    until("the server accepts connections", lambda: all(accepts((address, port)) for port in ports), 20, server)
    services = [Service("http", (address, ports[0]))]
    for kind in ("tcp", "detect"):
        services += [Service(f"first-{kind}", (address, ports[1]), kind, 25), Service(f"half-{kind}", (address, ports[2]), kind, 26)]
    services.append(Service("http-detect", (address, ports[0]), "detect"))
    with kit.pair(*services) as pair:
        named = {"declared": ("http", "first-tcp", "half-tcp"), "detected": ("http-detect", "first-detect", "half-detect")}
        direct, *through = kit.together(
            (lambda: cases(kit, *[(address, port) for port in ports])) if kit.direct_wanted else None,
            *[kit.mesh_wanted and (lambda n=names: cases(kit, *map(pair.way, n))) for names in named.values()],
        )
    for kind, found in zip(named, through):
        kit.row("edges", "our own", f"listener, {kind}", direct, found)


def cases(kit, *places):
    return kit.cases("edge_cases.py", *(f"{address}:{port}" for address, port in places), program="python3")
