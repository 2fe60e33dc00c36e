"""A service that calls another by name: http://orders.mesh/, through whatever http_proxy says."""
import http.server
import json
import urllib.request


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with urllib.request.urlopen("http://orders.mesh/", timeout=5) as answer:
            orders = json.load(answer)
        body = f"today: {' and '.join(orders['orders'])} (orders was asked by {orders['asked by']})\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 18080), Web).serve_forever()
