# Datagrams that nobody should send to a node.
# packets.py catch FILE HOST GOSSIP QUIC   writes so many packets of others to HOST as they arrive on this host
# packets.py garbage HOST COUNT            random bytes, and such that look like something, to both ports
# packets.py altered FILE HOST             what was caught: again, cut, flipped, longer; from here and in its sender's name
# packets.py elsewhere FILE HOST           what was caught, in its sender's name, to another node
# Prints how many went to each port.
import json, random, socket, struct, sys, time

GOSSIP, QUIC = 7946, 7947
random.seed(7)
sent = {GOSSIP: 0, QUIC: 0}


def address(text):
    return socket.inet_aton(text)


def catch(path, host, *wanted):
    left = dict(zip((GOSSIP, QUIC), map(int, wanted)))
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    link.bind(("eth0", 0))
    print("listening", flush=True)
    with open(path, "w") as out:
        while any(left.values()):
            frame = link.recv(65_536)[14:]
            header = (frame[0] & 15) * 4
            if frame[9] != 17 or frame[16:20] != address(host):
                continue
            port, to, length = struct.unpack("!HHH", frame[header:header + 6])
            payload = frame[header + 8:header + length]
            # Several in one are how the kernel hands them over, and not how they travel.
            if left.get(to, 0) and len(payload) <= 1_452:
                left[to] -= 1
                source = socket.inet_ntoa(frame[12:16])
                out.write(json.dumps([source, port, to, payload.hex()]) + "\n")


plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def send(host, to, payload, claims=None):
    if claims is None:
        plain.sendto(payload, (host, to))
    else:
        source, port = claims
        udp = struct.pack("!HHHH", port, to, 8 + len(payload), 0)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 17, 0, address(source), address(host))
        raw.sendto(ip + udp + payload, (host, 0))
    sent[to] += 1
    # A pace at which a busy machine drops nothing: every one of them is to be looked at.
    if sum(sent.values()) % 10 == 0:
        time.sleep(0.002)


def garbage(host, count):
    lengths = [0, 1, 2, 5, 8, 9, 20, 21, 32, 33, 60, 1_199, 1_200, 1_232, 1_233, 1_400]
    for number in range(int(count)):
        length = lengths[number % len(lengths)] if number % 2 else random.randrange(1_450)
        noise = random.randbytes(length)
        send(host, GOSSIP, noise)
        # Of the right version and epoch.
        send(host, GOSSIP, struct.pack("!BI", 1, 1) + noise)
        send(host, QUIC, noise)
        # A first packet of this version, of another, none at all; a packet of a connection.
        send(host, QUIC, struct.pack("!BI", 0xc3, 1) + noise)
        send(host, QUIC, struct.pack("!BI", 0xc3, 0x6b3343cf) + noise)
        send(host, QUIC, struct.pack("!BI", 0x80, 0) + noise)
        send(host, QUIC, b"\x45" + noise)


def altered(path, host):
    for source, port, to, payload in map(json.loads, open(path)):
        payload = bytes.fromhex(payload)
        for claims in (None, (source, port)):
            for _ in range(4):
                send(host, to, payload, claims)
            for length in (1, 5, 9, 17, 33, len(payload) // 2, len(payload) - 1):
                send(host, to, payload[:length], claims)
            for _ in range(24):
                at = random.randrange(len(payload))
                flipped = payload[:at] + bytes([payload[at] ^ 1 << random.randrange(8)]) + payload[at + 1:]
                send(host, to, flipped, claims)
            send(host, to, payload + b"\0", claims)


def elsewhere(path, host):
    for source, port, to, payload in map(json.loads, open(path)):
        for _ in range(3):
            send(host, to, bytes.fromhex(payload), (source, port))


if sys.argv[1] in ("altered", "elsewhere"):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
globals()[sys.argv[1]](*sys.argv[2:])
print(json.dumps({"gossip": sent[GOSSIP], "quic": sent[QUIC]}), flush=True)
