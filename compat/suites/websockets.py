"""WebSocket over HTTP/1.1 and HTTP/2: cases between the library websockets at both ends.

The source that websockets publishes holds tests of its parser, which open no connection. So its server and its client meet in cases after the
groups of Autobahn's suite: framing, fragments, pings, UTF-8, closing, sizes, compression, handshakes. Tests of WebSocket that others
publish are those of aiohttp (see there). Over HTTP/2 (RFC 8441) the client is h2 with wsproto; no server here speaks that, so that what
is right is written in the cases and counts as what is passed directly.
"""
import install
from kit import HERE
from outcomes import PASSED, Outcome
from pair import Service
from processes import accepts, until

PROGRAMS = []
LIMIT_S = 120


def run(kit):
    place = kit.places.place()
    server = kit.start("websockets", [kit.python, HERE / "clients/ws_server.py", *place])
    until("the WebSocket server accepts connections", lambda: accepts(place), 30, server)
    with kit.pair(Service("ws", place)) as pair:
        through = pair.way("ws")
        found = kit.together(
            (lambda: kit.cases("ws_cases.py", at(place))) if kit.direct_wanted else None,
            (lambda: kit.cases("ws_cases.py", at(through))) if kit.mesh_wanted else None,
        )
        over_h2 = kit.through(lambda: kit.cases("ws_h2_cases.py", at(through)))
    kit.row("websockets, client and server", install.version("websockets"), "listener, h1", *found)
    right = {name: Outcome(PASSED) for name in over_h2 or {}}
    kit.row("h2 and wsproto with websockets", f"{install.version('h2')}, {install.version('wsproto')}", "listener, h2 to h1", right, over_h2)


def at(place):
    return f"{place[0]}:{place[1]}"
