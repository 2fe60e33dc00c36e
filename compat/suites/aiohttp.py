"""aiohttp's own tests of WebSocket, of its client and its server.

Each test starts servers and asks them; here they start behind one node and are asked at the other. A server of one test ends before the next
one starts at the same place: connections that a node kept must not outlive it.
"""
import install
from kit import PLUGINS
from pair import Service

PROGRAMS = []
LIMIT_S = 160
PINNED = install.version("aiohttp")
FILES = {
    "WebSocket": ["tests/test_client_ws_functional.py", "tests/test_web_websocket_functional.py"],
}
# Some tests start several servers.
SERVERS = 4


def run(kit):
    source = install.source("aiohttp", PINNED, kit.python, kit.say)
    places = {(kind, side): [kit.places.place() for _ in range(SERVERS)] for kind in FILES for side in ("direct", "mesh")}
    services = [Service(name(kind, number), at) for kind in FILES for number, at in enumerate(places[kind, "mesh"])]

    def tests(kind, at, ways):
        env = {"COMPAT_PLACES": ",".join(f"{one[0]}:{one[1]}={way[0]}:{way[1]}" for one, way in zip(at, ways))}
        args = ["-c", PLUGINS / "plain.ini", "--rootdir", source, "-p", "no:asyncio", "--timeout=20"]
        leads = ["aiohttp_client", "aiohttp_server", "aiohttp_raw_server"]
        return kit.pytest(source, FILES[kind], args, env, "aiohttp_elsewhere", only=leads)

    with kit.pair(*services) as pair:
        wanted = []
        for kind in FILES:
            direct, mesh = places[kind, "direct"], places[kind, "mesh"]
            ways = [pair.way(name(kind, number)) for number in range(SERVERS)]
            wanted.append(kit.direct_wanted and (lambda k=kind, at=direct: tests(k, at, at)))
            wanted.append(kit.mesh_wanted and (lambda k=kind, at=mesh, to=ways: tests(k, at, to)))
        found = kit.together(*wanted)
    for number, kind in enumerate(FILES):
        kit.row(f"aiohttp, its tests of {kind}", PINNED, "listener, h1", *found[2 * number : 2 * number + 2])


def name(kind, number):
    return f"{kind.lower()}-{number}"
