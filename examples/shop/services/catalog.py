"""What the shop sells: HTTP over PostgreSQL."""
import http.server
import json
import os

import psycopg_pool

pool = psycopg_pool.ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=4, open=True)


class Catalog(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A head and its body are two writes: without this the second waits for an acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_GET(self):
        match self.path.strip("/").split("/"):
            case ["products"]:
                with pool.connection() as db:
                    rows = db.execute("SELECT name FROM products ORDER BY name").fetchall()
                self.answer(200, [name for (name,) in rows])
            case ["products", name]:
                with pool.connection() as db:
                    row = db.execute("SELECT origin FROM products WHERE name = %s", [name]).fetchone()
                if row:
                    self.answer(200, {"name": name, "origin": row[0]})
                else:
                    self.answer(404, {"error": f"no {name} here"})
            case _:
                self.answer(404, {"error": "no such page"})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


host, port = os.environ["LISTEN"].split(":")
Server((host, int(port)), Catalog).serve_forever()
