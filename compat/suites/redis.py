"""redis-py's own tests against a real Redis, as opaque TCP.

All tests of its source that talk to one server: commands, pipelines, publish and subscribe, blocking reads, locks, scripts, MONITOR,
both the threaded and the asyncio client, RESP2 and RESP3. Left out: clusters, sentinels, TLS, replicas, Redis modules and
Redis Enterprise, which need servers other than one plain Redis; and what connects to no server, or to a fixed address.
"""
import install
from pair import Service
from processes import accepts, until

PROGRAMS = ["redis-server:redis-server"]
LIMIT_S = 170
PINNED = install.version("redis")
BOTH = "commands pubsub pipeline lock monitor encoding connection_pool connection scripting hash keyspace_notifications".split()
THREADED = [f"tests/test_{part}.py" for part in [*BOTH, "function", "client", "multiprocessing"]]
ASYNCIO = [f"tests/test_asyncio/test_{part}.py" for part in BOTH]
NEEDS_MORE = ["onlycluster", "redismod", "ssl", "replica", "multidb_integration", "cp_integration", "experimental"]
# The fixtures of tests that connect to the server named on the command line.
CONNECTS = [
    "r", "r2", "decoded_r", "r_timeout", "create_redis", "redis_url", "connect_args", "master_host", "async_r_with_keyspace_notifications",
    "async_r_with_subkey_notifications", "r_with_keyspace_notifications", "r_with_subkey_notifications",
]
# These ask for the host that they are told and for port 6379.
FIXED_PORT = ["tests/test_asyncio/test_connection_pool.py::TestConnectionPool"]


def serve(kit):
    """A Redis of its own, since each half of the tests empties the database."""
    place = kit.places.place()
    where = ["--bind", place[0], "--port", place[1], "--dir", kit.directory("server-redis")]
    # Tests of errors ask for them with DEBUG.
    more = ["--save", "", "--enable-debug-command", "yes"]
    server = kit.start("redis", [install.find("redis-server"), *where, *more])
    until("redis accepts connections", lambda: accepts(place), child=server)
    return place


def run(kit):
    tests = install.source("redis", PINNED, kit.python, kit.say)

    def half(at, files):
        marks = " and ".join(f"not {mark}" for mark in NEEDS_MORE)
        args = ["-m", marks, "--redis-url", f"redis://{at[0]}:{at[1]}/0", *(f"--deselect={test}" for test in FIXED_PORT)]
        return kit.pytest(tests, files, args, plugin="redis_untraced", only=CONNECTS)

    def both(ways):
        """The threaded and the asyncio client's tests, side by side."""
        threaded, asyncio = kit.together(lambda: half(ways[0], THREADED), lambda: half(ways[1], ASYNCIO))
        return {**threaded, **asyncio}

    # Most of the time goes into waiting, so that all four run at once.
    names = ["redis-1", "redis-2"]
    services = [Service(name, serve(kit), "tcp", 6379) for name in names]
    with kit.pair(*services) as pair:
        places = [serve(kit), serve(kit)]
        direct, mesh = kit.together(
            (lambda: both(places)) if kit.direct_wanted else None,
            (lambda: both([pair.way(name) for name in names])) if kit.mesh_wanted else None,
        )
    kit.row("redis-py", PINNED, "listener, tcp", direct, mesh)
