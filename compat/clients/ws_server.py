"""An echo server of the library websockets, in the handling that its guide shows: ws_server.py ADDRESS PORT"""
import asyncio
import sys

from websockets.asyncio.server import serve


async def handle(connection):
    """Echoes; some paths behave otherwise."""
    path = connection.request.path
    if path == "/first":
        await connection.send("the server speaks first")
    if path == "/close":
        await connection.close(4001, "as asked")
        return
    if path == "/many":
        for number in range(2000):
            await connection.send(f"{number:05}" * 20)
        return
    if path == "/headers":
        await connection.send(repr(sorted((name.lower(), value) for name, value in connection.request.headers.raw_items())))
    if path == "/abort":
        connection.transport.abort()
        return
    async for message in connection:
        await connection.send(message)


def refuse(connection, request):
    if request.path == "/refuse":
        return connection.respond(403, "not for you\n")
    return None


def choose(_, offered):
    return next((name for name in ("chat.v2", "chat.v1") if name in offered), None)


async def main():
    more = {"select_subprotocol": choose, "process_request": refuse, "max_size": 20_000_000, "ping_interval": None}
    async with serve(handle, sys.argv[1], int(sys.argv[2]), **more) as server:
        await server.serve_forever()


asyncio.run(main())
