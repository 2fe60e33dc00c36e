"""httpx against httpbin, over HTTP/1.1 and HTTP/2, each to a server of either.

httpx's own tests answer themselves in their process but for those that ask uvicorn: these ask it through the mesh. Beside them, cases
for what programs do with httpx: methods, redirects, streaming both ways, compression, cookies, authentication, statuses, ranges,
a hundred at once; over HTTP/2 with prior knowledge, since nothing here is TLS.
"""
import install
from pair import Service
from servers import httpbin

PROGRAMS = []
LIMIT_S = 120
PINNED = install.version("httpx")
# These say which address they ask, in full.
FIXED_ADDRESS = [
    "tests/test_utils.py::test_logging_request", "tests/test_utils.py::test_logging_redirect_chain",
    "tests/test_main.py::test_auth", "tests/test_main.py::test_verbose",
]


def run(kit):
    source = install.source("httpx", PINNED, kit.python, kit.say)
    servers = {"h1": httpbin(kit), "h2": httpbin(kit, h2=True)}
    places = [kit.places.place(), kit.places.place()]
    services = [Service("h1", servers["h1"], "http"), Service("h2", servers["h2"], "http2"), Service("own", places[1])]
    with kit.pair(*services) as pair:
        own, own_through = kit.together(
            (lambda: tests(kit, source, places[0], places[0])) if kit.direct_wanted else None,
            (lambda: tests(kit, source, places[1], pair.way("own"))) if kit.mesh_wanted else None,
        )
        ways = {(caller, server): pair.way(server) for caller in servers for server in servers}
        direct = kit.together(*[kit.direct_wanted and (lambda s=spoken: cases(kit, servers[s], s)) for spoken in servers])
        through = kit.together(*[kit.mesh_wanted and (lambda w=way: cases(kit, ways[w], w[0])) for way in ways])
    kit.row("httpx, its own tests", PINNED, "listener, http", own, own_through)
    for (caller, server), found in zip(ways, through):
        kit.row("httpx with httpbin", PINNED, f"listener, {caller} to {server}", direct[caller == "h2"], found)


def cases(kit, place, spoken):
    return kit.cases("httpx_cases.py", f"http://{place[0]}:{place[1]}/", spoken)


def tests(kit, source, place, way):
    """Its own tests, with their server at `place` and asked at `way`."""
    env = {"COMPAT_PLACE": f"{place[0]}:{place[1]}", "COMPAT_WAY": f"http://{way[0]}:{way[1]}/"}
    args = ["-W", "default", *(f"--deselect={test}" for test in FIXED_ADDRESS)]
    return kit.pytest(source, ["tests"], args, env, "httpx_elsewhere", only=["server"])
