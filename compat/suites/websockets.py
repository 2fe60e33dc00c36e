"""WebSocket over HTTP/1.1 and HTTP/2: cases between the library websockets at both ends, and aiohttp's own tests.

The source that websockets publishes holds tests of its parser, which open no connection. So its server and its client meet in cases after the
groups of Autobahn's suite: framing, fragments, pings, UTF-8, closing, sizes, compression, handshakes. Of aiohttp, whose source has
its tests, those of WebSocket run as they are: their servers are put behind one node and asked at the other. Over HTTP/2 (RFC 8441) the
client is h2 with wsproto; no server here speaks that, so that what is right directly is what the same cases say of HTTP/1.1's server.
"""
import install
from kit import HERE, PLUGINS
from outcomes import PASSED, Outcome
from pair import Service
from processes import accepts, until

PROGRAMS = []
LIMIT_S = 120
AIOHTTP = ["tests/test_client_ws_functional.py", "tests/test_web_websocket_functional.py"]
# Some tests start several servers.
SERVERS = 3


def run(kit):
    place = kit.places.place()
    server = kit.start("websockets", [kit.python, HERE / "clients/ws_server.py", *place])
    until("the WebSocket server accepts connections", lambda: accepts(place), 30, server)
    source = install.source("aiohttp", install.version("aiohttp"), kit.python, kit.say)
    places = [[kit.places.place() for _ in range(SERVERS)] for _ in range(2)]
    services = [Service("ws", place), *[Service(f"test-{number}", at) for number, at in enumerate(places[1])]]
    with kit.pair(*services) as pair:
        ways = [pair.way(f"test-{number}") for number in range(SERVERS)]
        through = pair.way("ws")
        found = kit.together(
            (lambda: kit.cases("ws_cases.py", at(place))) if kit.direct_wanted else None,
            (lambda: kit.cases("ws_cases.py", at(through))) if kit.mesh_wanted else None,
            (lambda: tests(kit, source, zip(places[0], places[0]))) if kit.direct_wanted else None,
            (lambda: tests(kit, source, zip(places[1], ways))) if kit.mesh_wanted else None,
        )
        over_h2 = kit.through(lambda: kit.cases("ws_h2_cases.py", at(through)))
    kit.row("websockets, client and server", install.version("websockets"), "listener, h1", *found[:2])
    kit.row("aiohttp, its tests of WebSocket", install.version("aiohttp"), "listener, h1", *found[2:])
    right = {name: Outcome(PASSED) for name in over_h2 or {}}
    kit.row("h2 and wsproto with websockets", f"{install.version('h2')}, {install.version('wsproto')}", "listener, h2 to h1", right, over_h2)


def at(place):
    return f"{place[0]}:{place[1]}"


def tests(kit, source, places):
    """Its own tests, with their servers at places and asked at the ways."""
    env = {"COMPAT_PLACES": ",".join(f"{at(place)}={at(way)}" for place, way in places)}
    args = ["-c", PLUGINS / "plain.ini", "--rootdir", source, "-p", "no:asyncio", "-p", "no:aiohttp"]
    return kit.pytest(source, AIOHTTP, args, env, "aiohttp_elsewhere", only=["aiohttp_client", "aiohttp_server", "aiohttp_raw_server"])
