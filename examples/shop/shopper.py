"""A customer of the shop, and what it says it saw.

    shopper.py buy               buys things, follows the order over a WebSocket
    shopper.py look              asks for a page, and says nothing
    shopper.py rush PID          many requests at once; kills PID in the middle of them
"""
import concurrent.futures
import http.client
import itertools
import json
import os
import signal
import sys
import threading

import websockets.sync.client

SHOP = os.environ["SHOP_ADDRESS"]
DEADLINE = 20

REQUESTS = 600
CUSTOMERS = 8
KILL_AT = 200

BREAD = (200, {"name": "bread", "origin": "the oven"})


class Customer:
    """One connection to the shop, kept."""

    def __init__(self):
        self.connection = http.client.HTTPConnection(SHOP, timeout=DEADLINE)

    def ask(self, method, path):
        self.connection.request(method, path)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read() or "null")

    def show(self, method, path):
        status, value = self.ask(method, path)
        print(f"{method:6} {path:28} {status} {json.dumps(value)}")


def buy():
    alice = Customer()
    alice.show("GET", "/products")
    alice.show("GET", "/products/cheese")
    alice.show("GET", "/offers")
    for product in ["bread", "cheese", "bread", "dragon"]:
        alice.show("POST", f"/carts/alice/{product}")
    with websockets.sync.client.connect(f"ws://{SHOP}/news/alice", open_timeout=DEADLINE) as news:
        print("WebSocket", news.recv(timeout=DEADLINE))
        alice.show("POST", "/orders/alice")
        print("WebSocket", news.recv(timeout=DEADLINE))
        for state in ["packed", "shipped"]:
            alice.show("POST", f"/orders/alice/1/{state}")
            print("WebSocket", news.recv(timeout=DEADLINE))
    alice.show("POST", "/orders/alice")


def look():
    assert Customer().ask("GET", "/products/bread") == BREAD


def rush(victim):
    numbers, answered, failures = itertools.count(), itertools.count(1), []
    lock = threading.Lock()

    def look_around():
        customer = Customer()
        while next(numbers) < REQUESTS:
            try:
                page = customer.ask("GET", "/products/bread")
                if page != BREAD:
                    failures.append(repr(page))
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures.append(repr(error))
                customer = Customer()
            with lock:
                if next(answered) == KILL_AT:
                    os.kill(victim, signal.SIGKILL)

    with concurrent.futures.ThreadPoolExecutor(CUSTOMERS) as pool:
        for customer in [pool.submit(look_around) for _ in range(CUSTOMERS)]:
            customer.result()
    print(f"{next(answered) - 1} requests, {len(failures)} failed")
    for failure in failures:
        print(failure, file=sys.stderr)


match sys.argv[1:]:
    case ["buy"]:
        buy()
    case ["look"]:
        look()
    case ["rush", pid]:
        rush(int(pid))
    case _:
        sys.exit(__doc__)
