#!/bin/bash
# hop.sh [run.py arguments]: the cost of the hop, two starling nodes beside HAProxy (h2 between) in one interleaved run.
#
# Everything is on, as a user would run it: access log to a file, metrics, trace context, spans sampled at 1% and sent
# to a collector. Needs root (network namespaces) and the measuring tools of $STARLING_PEERS, set up by its setup.sh.
#   STARLING_PEERS=../shared/peers    the directory with run.py
#   STARLING_BIN=...                  a release build of starling; without it one is made
#   VS=haproxy-h2                     the peers to compare with; empty: none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
peers=$(realpath "${STARLING_PEERS:-../shared/peers}")
[ -x "$peers/run.py" ] || { echo "hop.sh: no run.py in $peers: set STARLING_PEERS" >&2; exit 2; }

starling=${STARLING_BIN:-}
if [ -z "$starling" ]; then
  cargo build --release -p starling
  target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  starling=$target/release/starling
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Only now that the programs are there, so that a missing one is named by its own set-up.
IFS=, read -ra others <<<"${VS-haproxy-h2}"
"$peers/setup.sh" "${others[@]:-direct}" >/dev/null

"$starling" ca init --dir "$work/CA" --trust-domain bench.example >/dev/null
"$starling" ca issue --dir "$work/CA" --name a --service web --out "$work/a" >/dev/null
"$starling" ca issue --dir "$work/CA" --name b --service backend --service backend-tcp --service iperf --out "$work/b" >/dev/null

configuration() { # configuration NAME ADDRESS OTHER
  cat <<END
[node]
name = "$1"
data_dir = "$work/$1/data"
shards = SHARDS

[mesh]
advertise = "$2"
seeds = ["$3:7947"]

[identity]
dir = "$work/$1"

[admin]
socket = "$work/$1/admin.sock"

[log]
access = "$work/$1/access.log"

[telemetry]
otlp = "http://127.0.0.1:4318"
sampling = 0.01
END
}
configuration a 10.77.0.1 10.77.0.2 >"$work/a.toml"
cat >>"$work/a.toml" <<END

[[listener]]
address = "127.0.0.1:8080"
service = "backend"

[[listener]]
address = "127.0.0.1:8081"
service = "iperf"

[[listener]]
address = "127.0.0.1:8082"
service = "backend-tcp"
END
configuration b 10.77.0.2 10.77.0.1 >"$work/b.toml"
cat >>"$work/b.toml" <<END

[[service]]
name = "backend"
address = "127.0.0.1:9000"
protocol = "http"
port = 80

[[service]]
name = "backend-tcp"
address = "127.0.0.1:9000"
protocol = "tcp"
port = 9000

[[service]]
name = "iperf"
address = "10.77.0.2:5201"
protocol = "tcp"
port = 5201
END

# A collector that takes the spans, and the node itself in the foreground. run.py sets THREADS for each proxy.
node() {
  echo "sh -c 'sed s/SHARDS/\$THREADS/ $work/$1.toml >$work/$1.run.toml; setsid -f python3 bench/otlp_sink.py \$\$; exec $starling agent -c $work/$1.run.toml'"
}
"$peers/run.py" --name starling --a-cmd "$(node a)" --b-cmd "$(node b)" --vs "${VS-haproxy-h2}" \
  --entry 127.0.0.1:8080 --tcp-entry 127.0.0.1:8081 --tcphttp-entry 127.0.0.1:8082 "$@"
