#!/bin/sh
# Runs the example: two nodes on loopback, two plain Python programs. Needs `starling` (in $STARLING, or on the PATH),
# python3 and curl; no privilege. Everything it starts ends with it.
set -eu
cd "$(dirname "$0")"
starling=${STARLING:-starling}
rm -rf work
mkdir work
trap 'kill $pids 2>/dev/null; wait; rm -rf work' EXIT
pids=

"$starling" ca init --dir work/CA --trust-domain example.test >work/ca.log
"$starling" ca issue --dir work/CA --name a --service web --out work/identity-a >>work/ca.log
"$starling" ca issue --dir work/CA --name b --service orders --out work/identity-b >>work/ca.log
for node in a b; do
  "$starling" agent -c $node.toml 2>work/$node.log &
  pids="$pids $!"
done
http_proxy=http://127.0.0.1:14140 python3 web.py &
pids="$pids $!"
python3 orders.py &
pids="$pids $!"

# From host b, through the mesh to web on host a, which asks orders on host b.
curl --silent --fail --retry 50 --retry-delay 1 --retry-all-errors --max-time 60 http://127.0.0.1:28080/
"$starling" services -o name --admin work/a.sock
