"""WebSocket between the library websockets at both ends, over HTTP/1.1: ws_cases.py ADDRESS:PORT"""
import ast
import sys
import threading
import time

from cases import case, main, same
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

AT = sys.argv[1]


def open_to(path="/", **more):
    return connect(f"ws://{AT}{path}", **{"proxy": None, "max_size": 20_000_000, "ping_interval": None, "close_timeout": 5, **more})


def echo(client, message):
    client.send(message)
    same(client.recv(10), message)


@case
def text_and_bytes_of_all_sizes():
    # Around the borders of the three ways to write a length.
    for size in (0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 1_000_000):
        with open_to(compression=None) as client:
            echo(client, "x" * size)
            echo(client, bytes(size))


@case
def message_of_8_mb():
    with open_to(compression=None) as client:
        echo(client, bytes(range(256)) * 32_768)


@case
def unicode_text():
    with open_to() as client:
        for text in ("Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\U0010ffff", "\x00\ud7ff\ue000"):
            echo(client, text)


@case
def fragments_are_one_message():
    with open_to(compression=None) as client:
        client.send(iter(["frag", "", "men", "ted"]))
        same(client.recv(10), "fragmented")
        client.send(bytes([number % 256]) for number in range(500))
        same(len(client.recv(10)), 500)


@case
def ping_within_a_fragmented_message():
    with open_to(compression=None) as client:
        def parts():
            yield "one"
            same(client.ping(b"between").wait(10), True)
            yield "two"

        client.send(parts())
        same(client.recv(10), "onetwo")


@case
def pings_are_answered():
    with open_to() as client:
        for payload in (b"", b"x", bytes(125)):
            same(client.ping(payload).wait(10), True)


@case
def compression_is_agreed_end_to_end():
    with open_to() as client:
        same("permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"], True)
        for size in (10, 100_000, 1_000_000):
            echo(client, "compress me " * (size // 12))


@case
def without_compression():
    with open_to(compression=None) as client:
        same(client.response.headers.get("Sec-WebSocket-Extensions"), None)


@case
def subprotocol_is_chosen():
    with open_to(subprotocols=["chat.v1", "other"]) as client:
        same(client.subprotocol, "chat.v1")


@case
def handshake_headers_go_both_ways():
    with open_to("/headers", additional_headers={"X-Own": "kept", "Authorization": "Basic dTpw"}, origin="http://origin.test") as client:
        told = dict(ast.literal_eval(client.recv(10)))
        same((told["x-own"], told["authorization"], told["origin"], told["host"]), ("kept", "Basic dTpw", "http://origin.test", AT))
        same((told["upgrade"].lower(), told["connection"].lower(), told["sec-websocket-version"]), ("websocket", "upgrade", "13"))


@case
def refusal_keeps_its_status_and_body():
    try:
        open_to("/refuse")
    except InvalidStatus as error:
        same((error.response.status_code, error.response.body), (403, b"not for you\n"))
    else:
        raise AssertionError("it was let in")


@case
def the_server_speaks_first():
    with open_to("/first") as client:
        same(client.recv(10), "the server speaks first")


@case
def close_code_and_reason_of_the_server():
    with open_to("/close") as client:
        try:
            client.recv(10)
        except ConnectionClosed as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (4001, "as asked"))
        else:
            raise AssertionError("it did not close")


@case
def close_codes_of_the_client():
    for code in (1000, 1001, 1003, 1007, 1009, 1011, 3000, 4999):
        client = open_to()
        client.close(code, "told")
        same((client.close_code, client.close_reason), (code, "told"))


@case
def an_aborted_connection_is_1006():
    with open_to("/abort") as client:
        try:
            client.recv(10)
        except ConnectionClosedError as closed:
            same(closed.rcvd, None)
        else:
            raise AssertionError("it went on")


@case
def many_messages_in_order():
    with open_to("/many") as client:
        same([int(message[:5]) for message in client], list(range(2000)))


@case
def both_sides_at_once():
    with open_to(compression=None) as client:
        sent = [bytes([number % 256]) * 5000 for number in range(400)]
        writer = threading.Thread(target=lambda: [client.send(one) for one in sent])
        writer.start()
        same([client.recv(10) for _ in sent] == sent, True)
        writer.join()


@case
def an_idle_connection_stays():
    with open_to() as client:
        echo(client, "before")
        # Longer than a request's deadline, 15 s.
        time.sleep(17)
        echo(client, "after")


@case
def fifty_connections_at_once():
    clients = [open_to() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(f"of {number}")
    same([client.recv(10) for client in clients], [f"of {number}" for number in range(50)])
    for client in clients:
        client.close()


if __name__ == "__main__":
    main()
