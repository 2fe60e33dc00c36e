"""Addresses on loopback that nobody else uses while this run lasts."""
import socket

from processes import Trouble

# A free second byte is claimed by a socket that stays open; the tests of the data plane take 200 to 249.
BLOCKS = range(100, 140)
CLAIM_PORT = 49_010
# UDP, for gossip and QUIC: others of this machine may run nodes of their own.
NODE_PORTS = 7946, 7947


class Places:
    """Addresses 127.BLOCK.n.1, each given once, and as many ranges of VIPs."""

    def __init__(self):
        self.number = 0
        for block in BLOCKS:
            claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                claim.bind((f"127.{block}.255.254", CLAIM_PORT))
            except OSError:
                claim.close()
                continue
            self.block, self.claim = block, claim
            return
        raise Trouble("no free block of loopback addresses: too many runs at once")

    def address(self):
        """An address, and a /24 for VIPs that goes with it."""
        while self.number < 250:
            self.number += 1
            address = f"127.{self.block}.{self.number}.1"
            if all(is_free(address, port) for port in NODE_PORTS):
                return address, f"127.{self.block + 40}.{self.number}.0/24"
        raise Trouble("more addresses wanted than there are")

    def place(self):
        """An address and a port on it that is free for TCP and UDP."""
        address, _ = self.address()
        for _ in range(50):
            with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
                tcp.bind((address, 0))
                port = tcp.getsockname()[1]
                try:
                    udp.bind((address, port))
                except OSError:
                    continue
                return address, port
        raise Trouble(f"no free port on {address}")

    def close(self):
        self.claim.close()


def is_free(address, port):
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
