"""otlp_sink.py PID: takes what is POSTed to 127.0.0.1:4318 and answers 200, while the process PID lives.

Stands in for a trace collector while the hop is measured. A process of its own, so that its cost is not the node's.
"""
import http.server
import os
import sys
import threading
import time


class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 4318), Sink)
threading.Thread(target=server.serve_forever, daemon=True).start()
while os.path.exists(f"/proc/{sys.argv[1]}"):
    time.sleep(0.5)
