"""requests' own tests against httpbin, over HTTP/1.1.

Those of its tests that ask a server: they want pytest-httpbin, and get the httpbin that gunicorn serves, directly and behind the
mesh. Left out: those that want TLS or ask nobody, which a mesh can't touch.
"""
import install
from pair import Service
from servers import httpbin

PROGRAMS = []
LIMIT_S = 120
PINNED = install.version("requests")
FILES = ["tests/test_requests.py", "tests/test_lowlevel.py"]


def run(kit):
    place = httpbin(kit)
    tests = install.source("requests", PINNED, kit.python, kit.say)

    def suite(at):
        env = {"COMPAT_HTTPBIN": f"http://{at[0]}:{at[1]}"}
        return kit.pytest(tests, FILES, [], env, "httpbin_elsewhere", only=["httpbin"], without=["httpbin_secure"])

    with kit.pair(Service("httpbin", place)) as pair:
        direct, mesh = kit.together(
            (lambda: suite(place)) if kit.direct_wanted else None,
            (lambda: suite(pair.way("httpbin"))) if kit.mesh_wanted else None,
        )
    kit.row("requests", PINNED, "listener, http", direct, mesh)
