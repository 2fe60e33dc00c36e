"""A service that knows nothing of the mesh: it says which orders there are."""
import http.server
import json


class Orders(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"orders": ["bread", "salt"], "asked by": self.headers.get("starling-source", "?")}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 18081), Orders).serve_forever()
