"""Servers of the small cases: edge_server.py ADDRESS HTTP_PORT FIRST_PORT HALF_PORT"""
import asyncio
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS, HTTP, FIRST, HALF = sys.argv[1], *map(int, sys.argv[2:5])
NEWS = threading.Condition()
GONE = []


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def start(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def do_GET(self):
        if self.path == "/events":
            self.start("text/event-stream")
            for number in range(5):
                self.chunk(b"id: %d\ndata: %.6f\n\n" % (number, time.time()))
                time.sleep(0.3)
            self.chunk(b"")
        elif self.path == "/events/long":
            self.start("text/event-stream")
            try:
                for _ in range(100):
                    self.chunk(b": beat\n\n")
                    time.sleep(0.2)
                self.chunk(b"")
            except OSError:
                GONE.append(self.path)
        elif self.path == "/poll":
            with NEWS:
                NEWS.wait(12)
            self.plain(b"news")
        elif self.path == "/gone":
            self.plain(b"%d" % len(GONE))
        elif self.path == "/early":
            self.send_response(103)
            self.send_header("Link", "</style.css>; rel=preload")
            self.end_headers()
            self.plain(b"late")
        elif self.path == "/until-close":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"x" * 100_000)
            self.close_connection = True
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 100)
            self.close_connection = True
        elif self.path == "/trailers":
            self.start("text/plain")
            self.wfile.write(b"4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n")

    def do_POST(self):
        if self.path == "/news":
            with NEWS:
                NEWS.notify_all()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.plain(b"told")

    def plain(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


async def first(reader, writer):
    """Greets at once, then echoes lines."""
    writer.write(b"220 ready\r\n")
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def half(reader, writer):
    """Answers only once the caller has said all: how much it was."""
    data = await reader.read(-1)
    writer.write(b"%d" % len(data))
    await writer.drain()
    writer.close()


async def main():
    threading.Thread(target=ThreadingHTTPServer((ADDRESS, HTTP), Answers).serve_forever, daemon=True).start()
    await asyncio.start_server(first, ADDRESS, FIRST)
    await asyncio.start_server(half, ADDRESS, HALF)
    await asyncio.Event().wait()


asyncio.run(main())
