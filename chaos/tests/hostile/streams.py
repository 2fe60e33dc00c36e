# Programs of a host that treat its node badly: over TCP, and in DNS.
# streams.py hold HELD RELEASE PORT:COUNT:TEXT...  connections that say TEXT and no more, until the file RELEASE is there
# streams.py abuse PROXY ADMIN DNS                 what no client should send; prints the answers' first lines by kind
import json, os, random, resource, socket, struct, sys, time

random.seed(7)


def hold(held, release, *kinds):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connections = []
    for kind in kinds:
        port, count, text = kind.split(":", 2)
        for number in range(int(count)):
            try:
                connection = socket.create_connection(("127.0.0.1", int(port)), timeout=60)
                connection.sendall(text.encode().decode("unicode_escape").encode("latin1"))
            except ConnectionResetError:
                continue  # It leads to nothing, and was reset before connect() had returned.
            connections.append(connection)
    open(held, "w").close()
    while not os.path.exists(release):
        time.sleep(0.02)


def ask(port, parts, ends=False):
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    answer = b""
    try:
        for part in parts:
            connection.sendall(part)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        while True:
            piece = connection.recv(65_536)
            if not piece:
                break
            answer += piece
            # A kept connection that was answered is not waited for.
            if answer.startswith(b"HTTP/") and b"\r\n\r\n" in answer:
                break
    except OSError:
        # It hung up at once.
        pass
    connection.close()
    return answer.split(b"\r\n")[0].decode("latin1")


def abuse(proxy, admin, dns):
    answers = {}
    for name, port, target in (("proxy", int(proxy), b"http://orders.mesh/"), ("admin", int(admin), b"/live")):
        line = b"GET " + target + b" HTTP/1.1\r\nhost: orders.mesh\r\n"
        kinds = {
            "long field": [line, b"x: ", b"a" * 400_000, b"\r\n\r\n"],
            "many fields": [line] + [b"x-%d: 1\r\n" % n for n in range(5_000)] + [b"\r\n"],
            "long target": [b"GET http://orders.mesh/", b"a" * 400_000, b" HTTP/1.1\r\nhost: orders.mesh\r\n\r\n"],
            "endless line": [b"G" * 1_000_000],
            "garbage": [b"\x16\x03\x01\x02\x00\x01" + random.randbytes(3_000) + b"\r\n\r\n"],
            "zeros": [b"\0" * 4_000 + b"\r\n\r\n"],
        }
        for kind, parts in kinds.items():
            answers[f"{name} {kind}"] = ask(port, parts)
    # A name that points at itself, counts of what is not there, and chance.
    questions = [b"\0" * n for n in range(0, 40)]
    questions += [struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"]
    questions += [struct.pack("!6H", 1, 0x100, 65_535, 65_535, 65_535, 65_535)]
    questions += [struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\x3f" + b"a" * 63 * 8 + b"\0\0\1\0\1"]
    questions += [random.randbytes(random.randrange(4_200)) for _ in range(1_000)]
    socket_ = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number, question in enumerate(questions):
        socket_.sendto(question, ("127.0.0.1", int(dns)))
        if number % 10 == 0:
            time.sleep(0.002)
    for question in questions[:200]:
        ask(int(dns), [struct.pack("!H", random.choice((len(question), 65_535))) + question], ends=True)
    print(json.dumps(answers), flush=True)


globals()[sys.argv[1]](*sys.argv[2:])
