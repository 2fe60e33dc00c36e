"""Datagrams to an echo: udp_cases.py ADDRESS PORT"""
import random
import socket
import sys

from cases import case, main, same

AT = (sys.argv[1], int(sys.argv[2]))
# The largest that UDP carries over IPv4.
MOST = 65_507


def client():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(1)
    return one


def answer(one, sent):
    """Datagrams may be lost: each is sent up to five times."""
    for _ in range(5):
        one.sendto(sent, AT)
        try:
            while True:
                data, sender = one.recvfrom(MOST)
                if data == sent:
                    return sender
        except TimeoutError:
            continue
    raise AssertionError(f"no answer to {len(sent)} bytes")


@case
def answers_come_from_the_address_asked():
    with client() as one:
        same(answer(one, b"hello"), AT)


@case
def a_connected_socket_works():
    with client() as one:
        one.connect(AT)
        for _ in range(5):
            one.send(b"connected")
            try:
                return same(one.recv(100), b"connected")
            except TimeoutError:
                continue
        raise AssertionError("no answer")


@case
def sizes_up_to_a_packet():
    with client() as one:
        for size in (1, 100, 512, 1000, 1100, 1200, 1400, 1472):
            answer(one, random.Random(size).randbytes(size))


@case
def sizes_beyond_a_packet():
    with client() as one:
        for size in (1473, 2000, 9000, 30_000, 60_000, MOST):
            answer(one, random.Random(size).randbytes(size))


@case
def an_empty_datagram_is_one():
    with client() as one:
        answer(one, b"")


@case
def flows_do_not_mix():
    clients = [client() for _ in range(50)]
    for number, one in enumerate(clients):
        answer(one, f"mine {number}".encode())
    for one in clients:
        one.setblocking(False)
        try:
            stray = one.recv(100)
        except BlockingIOError:
            stray = b"mine"
        same(stray.startswith(b"mine"), True)
        one.close()


@case
def most_of_a_burst_arrives():
    with client() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        arrived = set()
        # Bursts as small as the queues of a program are expected to be.
        for burst in range(20):
            for number in range(burst * 20, burst * 20 + 20):
                one.sendto(b"%06d" % number + bytes(500), AT)
            try:
                for _ in range(20):
                    arrived.add(int(one.recv(1000)[:6]))
            except TimeoutError:
                continue
        same(len(arrived) >= 380, True, f"{len(arrived)} of 400 arrived; at least 380")


if __name__ == "__main__":
    main()
