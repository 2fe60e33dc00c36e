"""What each customer wants: HTTP over Redis; what it costs is asked of pricing, over gRPC."""
import http.server
import json
import os
import pathlib
import sys

import grpc
import redis

sys.path.append(str(pathlib.Path(__file__).parent))
messages, services = grpc.protos_and_services("pricing.proto")

store = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
pricing = services.PricingStub(grpc.insecure_channel(os.environ["PRICING_ADDRESS"]))


def cart(customer):
    lines = {product: int(count) for product, count in sorted(store.hgetall(f"cart:{customer}").items())}
    basket = messages.Basket(lines=[messages.Line(product=product, count=count) for product, count in lines.items()])
    return {"lines": lines, "cents": pricing.Quote(basket, timeout=5).cents}


class Cart(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        match self.path.strip("/").split("/"):
            case ["offers"]:
                offers = pricing.Offers(messages.OffersRequest(), timeout=5)
                self.answer(200, [{"product": offer.product, "cents": offer.cents} for offer in offers])
            case ["carts", customer]:
                self.answer(200, cart(customer))
            case _:
                self.answer(404, {"error": "no such page"})

    def do_POST(self):
        """One more of a product, if pricing knows it."""
        _, customer, product = self.path.strip("/").split("/")
        line = messages.Line(product=product, count=1)
        try:
            pricing.Quote(messages.Basket(lines=[line]), timeout=5)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            self.answer(404, {"error": error.details()})
            return
        store.hincrby(f"cart:{customer}", product, 1)
        self.answer(200, cart(customer))

    def do_DELETE(self):
        _, customer = self.path.strip("/").split("/")
        store.delete(f"cart:{customer}")
        self.answer(200, cart(customer))

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


host, port = os.environ["LISTEN"].split(":")
http.server.ThreadingHTTPServer((host, int(port)), Cart).serve_forever()
