"""curl's transfers against nginx, over HTTP/1.1 and HTTP/2, through every way out of a node.

Resumed, ranged, compressed and conditional downloads, HEAD, uploads with a length, in chunks and after 100-continue, slow ones both
ways, many at once. Each way has the same cases: an explicit listener, the HTTP proxy, CONNECT and SOCKS5.
"""
import install
from pair import Service
from servers import nginx

PROGRAMS = ["curl:curl", "nginx:nginx"]
LIMIT_S = 120
WAYS = {
    "listener": [],
    "HTTP proxy": ["-x", "http://{proxy}"],
    "CONNECT": ["-p", "-x", "http://{proxy}"],
    "SOCKS5": ["-x", "socks5h://{socks}"],
}


def run(kit):
    place, root = nginx(kit)
    h2, _ = nginx(kit, h2=True, root=root)
    asked = {"h1": place, "h2": h2}
    direct = kit.together(*[kit.direct_wanted and (lambda s=s: cases(kit, asked[s], s, root)) for s in asked])
    direct, through = dict(zip(asked, direct)), {}
    if kit.mesh_wanted:
        with kit.pair(Service("h1", place), Service("h2", h2, "http2")) as pair:
            proxy, socks = (":".join(map(str, at)) for at in (pair.proxy, pair.socks5))
            for way, words in WAYS.items():
                args = [word.format(proxy=proxy, socks=socks) for word in words]
                at = pair.way("h1") if way == "listener" else ("h1.mesh", 80)
                through["h1", "h1", way] = lambda at=at, args=args: cases(kit, at, "h1", root, args)
            for caller, server in (("h2", "h1"), ("h1", "h2"), ("h2", "h2")):
                through[caller, server, "listener"] = lambda c=caller, s=server: cases(kit, pair.way(s), c, root)
            through = dict(zip(through, kit.together(*through.values(), most=3)))
    else:
        through = {("h1", "h1", "listener"): None, ("h2", "h2", "listener"): None}
    version = install.debian("curl")
    for (caller, server, way), found in through.items():
        kit.row("curl with nginx", version, f"{way}, {caller} to {server}", direct[caller], found, pinned=False)


def cases(kit, place, spoken, root, args=()):
    return kit.cases("curl_cases.py", f"http://{place[0]}:{place[1]}", spoken, root, kit.directory("curl"), *args, program="python3")
