"""The published gRPC interoperability cases between grpcio and @grpc/grpc-js: each as client of each.

All cases that need neither TLS nor credentials: unary and all three streaming kinds, compression, metadata before and after, cancelling,
deadlines, statuses; beside them each status code, a hundred calls at once and a stream of two thousand messages. Client and server are written
after the published description; only the libraries are other people's.
"""
import install
from kit import HERE
from pair import Service
from processes import accepts, run as finish, until

PROGRAMS = ["node:nodejs", "npm:npm"]
LIMIT_S = 100
PROTO = HERE / "clients/test.proto"


def run(kit):
    modules = install.npm(kit.say)
    generated = kit.directory("generated")
    finish([kit.python, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}", f"--python_out={generated}", f"--grpc_python_out={generated}", PROTO.name])
    clients = {
        "grpcio": lambda place: kit.cases("grpc_cases.py", generated, at(place)),
        "grpc-js": lambda place: kit.cases("grpc_cases.js", modules, PROTO, at(place), program="node"),
    }
    servers = {
        "grpcio": serve(kit, [kit.python, HERE / "clients/grpc_server.py", generated]),
        "grpc-js": serve(kit, ["node", HERE / "clients/grpc_server.js", modules, PROTO]),
    }
    pairs = [(client, server) for client in clients for server in servers]
    with kit.pair(*[Service(name, place, "grpc") for name, place in servers.items()]) as pair:
        direct = kit.together(*[kit.direct_wanted and (lambda c=c, s=s: clients[c](servers[s])) for c, s in pairs])
        through = kit.together(*[kit.mesh_wanted and (lambda c=c, s=s: clients[c](pair.way(s))) for c, s in pairs])
    version = f"{install.version('grpcio')}, {install.npm_version('@grpc/grpc-js')}"
    for (client, server), there, here in zip(pairs, direct, through):
        kit.row("gRPC interoperability", version, f"listener, {client} to {server}", there, here)


def at(place):
    return f"{place[0]}:{place[1]}"


def serve(kit, argv):
    place = kit.places.place()
    server = kit.start("grpc", [*argv, at(place)])
    until("the gRPC server accepts connections", lambda: accepts(place), 30, server)
    return place
