"""WebSocket over HTTP/2 (RFC 8441), by the libraries h2 and wsproto: ws_h2_cases.py ADDRESS:PORT"""
import socket
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings
from cases import case, main, same
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

AT = sys.argv[1]


class Far(Exception):
    """The far side refused."""


class Client:
    """One HTTP/2 connection; streams of it are WebSockets."""

    def __init__(self):
        host, port = AT.split(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.waiting = {}
        self.pump(lambda: h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL in self.h2.remote_settings)

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def pump(self, until):
        """Takes what comes, until something holds."""
        while not until():
            data = self.socket.recv(65_536)
            if not data:
                raise Far("the connection ended")
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.waiting.setdefault(getattr(event, "stream_id", 0), []).append(event)
            self.flush()

    def next(self, stream, *kinds):
        """The next event of a stream that is of one of these kinds."""
        found = []

        def there():
            queue = self.waiting.get(stream, [])
            while queue and not found:
                event = queue.pop(0)
                if isinstance(event, kinds):
                    found.append(event)
            return bool(found)

        self.pump(there)
        return found[0]

    def open(self, path="/", extra=()):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path), (":authority", AT)]
        self.h2.send_headers(stream, [*head, ("sec-websocket-version", "13"), *extra])
        self.flush()
        return Socket(self, stream, dict(self.next(stream, h2.events.ResponseReceived).headers))


class Socket:
    def __init__(self, client, stream, headers):
        self.client, self.stream, self.headers = client, stream, headers
        self.frames, self.events = Connection(ConnectionType.CLIENT), []

    def send(self, event):
        data = self.frames.send(event)
        while data:
            room = min(self.client.h2.local_flow_control_window(self.stream), self.client.h2.max_outbound_frame_size)
            if room <= 0:
                before = self.client.h2.local_flow_control_window(self.stream)
                self.client.pump(lambda: self.client.h2.local_flow_control_window(self.stream) > before)
                continue
            self.client.h2.send_data(self.stream, data[:room])
            data = data[room:]
            self.client.flush()

    def receive(self):
        while not self.events:
            event = self.client.next(self.stream, h2.events.DataReceived, h2.events.StreamEnded, h2.events.StreamReset)
            if not isinstance(event, h2.events.DataReceived):
                raise Far(type(event).__name__)
            self.frames.receive_data(event.data)
            self.events += self.frames.events()
        return self.events.pop(0)

    def message(self):
        parts = []
        while True:
            event = self.receive()
            parts.append(event.data)
            if event.message_finished:
                return (b"" if isinstance(parts[0], (bytes, bytearray)) else "").join(parts)


@case
def handshake_is_200():
    same(Client().open().headers[":status"], "200")


@case
def text_and_bytes_are_echoed():
    client = Client().open()
    client.send(TextMessage("grüße"))
    same(client.message(), "grüße")
    client.send(BytesMessage(bytes(range(256))))
    same(bytes(client.message()), bytes(range(256)))


@case
def message_of_a_megabyte():
    client = Client().open()
    client.send(BytesMessage(bytes(1_000_000)))
    same(len(client.message()), 1_000_000)


@case
def fragments_are_one_message():
    client = Client().open()
    client.send(TextMessage("frag", message_finished=False))
    client.send(TextMessage("ments"))
    same(client.message(), "fragments")


@case
def ping_is_answered():
    client = Client().open()
    client.send(Ping(b"there?"))
    event = client.receive()
    same((type(event), bytes(event.payload)), (Pong, b"there?"))


@case
def subprotocol_is_chosen():
    same(Client().open(extra=[("sec-websocket-protocol", "chat.v1")]).headers.get("sec-websocket-protocol"), "chat.v1")


@case
def refusal_keeps_its_status():
    same(Client().open("/refuse").headers[":status"], "403")


@case
def close_of_the_server_has_its_code():
    event = Client().open("/close").receive()
    same((type(event), int(event.code), event.reason), (CloseConnection, 4001, "as asked"))


@case
def close_of_the_client_ends_the_stream():
    client = Client().open()
    client.send(CloseConnection(1000, "done"))
    event = client.receive()
    same((type(event), int(event.code)), (CloseConnection, 1000))
    client.client.next(client.stream, h2.events.StreamEnded)


@case
def several_beside_each_other():
    client = Client()
    sockets = [client.open() for _ in range(20)]
    for number, one in enumerate(sockets):
        one.send(TextMessage(f"of {number}"))
    same([one.message() for one in reversed(sockets)], [f"of {number}" for number in reversed(range(20))])


@case
def many_messages_in_order():
    client = Client().open("/many")
    same([int(client.message()[:5]) for _ in range(2000)], list(range(2000)))


@case
def one_that_is_reset_leaves_the_others():
    client = Client()
    first, second = client.open(), client.open()
    client.h2.reset_stream(first.stream, 8)
    client.flush()
    second.send(TextMessage("still here"))
    same(second.message(), "still here")


if __name__ == "__main__":
    main()
