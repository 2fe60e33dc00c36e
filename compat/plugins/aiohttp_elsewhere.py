"""aiohttp's tests start servers: each at one of COMPAT_PLACES (`ADDRESS:PORT=WAY,…`) that is free, and they are asked at its way."""
import os

from aiohttp.test_utils import BaseTestServer
from yarl import URL

FREE = [entry.split("=") for entry in os.environ["COMPAT_PLACES"].split(",")]
plain_start, plain_close = BaseTestServer.start_server, BaseTestServer.close


async def start_server(self, loop=None, **more):
    own = self.runner is None and not more.get("ssl") and not self.port and self.scheme in ("", "http") and self.host == "127.0.0.1"
    if not own or not FREE:
        return await plain_start(self, loop, **more)
    self.compat_place = FREE.pop(0)
    place, way = self.compat_place
    self.host, port = place.split(":")
    self.port = int(port)
    await plain_start(self, loop, **more)
    # As the tests see it, that is where it is.
    self._root = URL(f"http://{way}")
    self.host, port = way.split(":")
    self.port = int(port)


async def close(self):
    await plain_close(self)
    place = self.__dict__.pop("compat_place", None)
    if place:
        FREE.append(place)


BaseTestServer.start_server, BaseTestServer.close = start_server, close
