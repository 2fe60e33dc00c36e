"""Servers that several suites ask."""
import os
import random

import install
from processes import accepts, until


def httpbin(kit, h2=False):
    """httpbin under gunicorn: keep-alive, chunked bodies, sixteen requests at once; with `h2`, HTTP/2 by prior knowledge."""
    place = kit.places.place()
    serve = ["-m", "gunicorn", "--bind", f"{place[0]}:{place[1]}", "-k", "gthread", "--threads", "16", "--keep-alive", "30"]
    spoken = ["--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge"] if h2 else []
    server = kit.start("httpbin", [kit.python, *serve, *spoken, "--no-control-socket", "httpbin:app"])
    until("httpbin accepts connections", lambda: accepts(place), child=server)
    return place

NGINX = """
daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error.log warn; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; absolute_redirect off; default_type application/octet-stream; types {{ text/plain txt; text/html html; }}
  client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
  uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi; client_max_body_size 100m; keepalive_requests 100000;
  server {{
    listen {place}{h2}; root {root};
    location /zip/ {{ alias {root}/; gzip on; gzip_types *; gzip_min_length 1; }}
    location /put/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
    location /slow/ {{ alias {root}/; limit_rate 400k; }}
    location /moved {{ return 301 /small.txt; }}
    location /status/ {{ rewrite ^/status/204 /none last; return 404; }}
    location = /none {{ return 204; }}
    location = /asked {{ add_header X-Method $request_method; add_header X-Length "$http_content_length"; return 200 "$request_uri $host"; }}
    location = /refuse {{ client_max_body_size 1k; dav_methods PUT; }}
  }}
}}
"""


def nginx(kit, h2=False, root=None):
    """nginx with files of all sizes, PUT and odd answers; its place, and the directory it serves: a new one without `root`."""
    place, at = kit.places.place(), kit.directory("server-nginx")
    user = "user root;" if os.getuid() == 0 else ""
    root = root or files(at / "root")
    settings = {"at": at, "user": user, "root": root, "place": f"{place[0]}:{place[1]}", "h2": " http2" if h2 else ""}
    (at / "nginx.conf").write_text(NGINX.format(**settings))
    server = kit.start("nginx", [install.find("nginx"), "-c", at / "nginx.conf", "-e", at / "error.log"])
    until("nginx accepts connections", lambda: accepts(place), child=server)
    return place, root


def files(root):
    """What nginx serves."""
    (root / "put").mkdir(parents=True)
    (root / "small.txt").write_text("small\n")
    (root / "empty.txt").write_text("")
    (root / "large.bin").write_bytes(random.Random(3).randbytes(20_000_000))
    (root / "text.txt").write_text("".join(f"line {number}\n" for number in range(50_000)))
    return root
