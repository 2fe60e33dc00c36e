"""Says what left a host through the mesh, as the admin interface of its node tells: flows.py HOST ADDRESS."""
import json
import re
import sys
import urllib.request

host, address = sys.argv[1:]


def fetch(path):
    return urllib.request.urlopen(f"http://{address}:4191{path}", timeout=20).read().decode()


flows = {}
for route in json.loads(fetch("/v1/stat")):
    if route["direction"] == "outbound" and route["requests"]:
        flows[route["src"], route["dst"]] = f"{route['requests']} requests, {route['success']:.2%} succeeded"
for labels, count in re.findall(r"^starling_tcp_connections_total\{(.*)\} (\d+)$", fetch("/metrics"), re.MULTILINE):
    labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    if labels["direction"] == "outbound" and int(count):
        # How many a program keeps is its own affair, and may differ from run to run.
        flows[labels["src"], labels["dst"]] = "connections"
for (source, service), flow in sorted(flows.items()):
    print(f"host {host}: {source or 'the world':12} -> {service:13} {flow}")
