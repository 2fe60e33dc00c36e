#!/usr/bin/env bash
# Runs the shop on three local hosts, buys something, kills a service under load, and says what went through the mesh.
# No privilege is needed. All that it starts ends with it, however it ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

a=127.81.0.1 b=127.81.0.2 c=127.81.0.3 # Linux has all of 127/8 on its loopback interface
deadline=60                            # seconds that anything is waited for

fail() { echo "shop: $*" >&2; exit 1; }

# Debian keeps the server's programs out of the PATH.
PATH=$PATH:$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
for need in python3:python3-venv node:nodejs npm:npm redis-server:redis-server initdb:postgresql psql:postgresql-client; do
  command -v "${need%%:*}" >/dev/null || fail "${need%%:*} is missing; Debian has it in ${need##*:}"
done
packages=$(./install.sh)
python=$packages/python/bin/python
export NODE_PATH=$packages/node_modules PYTHONDONTWRITEBYTECODE=1

if [ -z "${STARLING:-}" ] || [ -z "${SHOP_ORDERS:-}" ]; then
  cargo build --quiet --release -p starling -p starling-shop-orders
  built=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release
fi
starling=${STARLING:-$built/starling}
orders=${SHOP_ORDERS:-$built/shop-orders}

SHOP_WORK=$(mktemp -d)
export SHOP_WORK # in the environment of all that is started here
work=$SHOP_WORK
declare -A pid=()

end_all() {
  local status=$?
  trap '' INT TERM HUP
  # 129 and above: it was interrupted, which is no riddle.
  if [ "$status" != 0 ] && [ "$status" -lt 129 ]; then tail -n 20 "$work"/*.log >&2; fi
  end_programs # before their nodes, which would wait for what these have open
  end_each a b c
  rm -rf "$work"
}
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

end_programs() { end_each front orders cart catalog-b catalog-c pricing redis db; }

# end_each NAME…: asks them to end, all at once; ends by SIGKILL what does not.
end_each() {
  local name ids=() tries=0
  for name in "$@"; do
    [ -n "${pid[$name]:-}" ] || continue
    ids+=("${pid[$name]}")
    # By SIGTERM PostgreSQL would wait for its clients.
    if [ "$name" = db ]; then kill -INT "${pid[$name]}"; else kill -TERM "${pid[$name]}"; fi 2>/dev/null || true
    unset "pid[$name]"
  done
  while [ "${#ids[@]}" -gt 0 ] && kill -0 "${ids[@]}" 2>/dev/null && [ $((tries += 1)) -lt 200 ]; do sleep 0.05; done
  [ "${#ids[@]}" = 0 ] || kill -KILL "${ids[@]}" 2>/dev/null || true
}

# start NAME COMMAND…: in the background; its words go to a log.
start() {
  local name=$1
  shift
  "$@" </dev/null >"$work/$name.log" 2>&1 &
  pid[$name]=$!
  disown # or bash would tell of those that are killed
}

# until_so WHAT COMMAND…: tries until it succeeds. Gives up if it never does, or if a program has ended.
until_so() {
  local what=$1 name end=$((SECONDS + deadline))
  shift
  until "$@" >/dev/null 2>&1; do
    for name in "${!pid[@]}"; do
      kill -0 "${pid[$name]}" 2>/dev/null || fail "$name has ended"
    done
    [ "$SECONDS" -lt "$end" ] || fail "waited ${deadline} s in vain: $what"
    sleep 0.1
  done
}

ask() { # ask HOST VERB…: the node of that host
  local host=$1
  shift
  "$starling" "$@" --admin "$work/$host.sock"
}
services_known() { [ "$(ask "$1" services -o name | wc -l)" = 7 ]; }
programs_answer() { ask "$1" check -o json | "$python" -c 'import json, sys; sys.exit(any(c["check"] == "services" and c["state"] != "ok" for c in json.load(sys.stdin)))'; }
catalog_on() { ask a endpoints catalog.shop -o json | "$python" -c 'import json, sys; sys.exit([e["state"] for e in json.load(sys.stdin) if e["node"] == sys.argv[1]] != [sys.argv[2]])' "$@"; }
# customers_find COMMAND…: does it hold, and is the shop open all the while?
customers_find() { "$python" shopper.py look || exit 1; "$@"; }
catalogs() { ask a endpoints catalog.shop -o json | "$python" -c 'import json, sys; [print("catalog on host", e["node"], "is", e["state"]) for e in sorted(json.load(sys.stdin), key=lambda e: e["node"])]'; }

# PostgreSQL refuses to be run by root.
as_database() {
  if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else exec "$@"; fi
}
start_database() {
  chmod 711 "$work"
  mkdir "$work/db"
  echo "${PGPASSWORD}" >"$work/password"
  if [ "$(id -u)" = 0 ]; then chown postgres "$work/db" "$work/password"; fi
  (cd / && as_database initdb --pgdata="$work/db" --username=shop --pwfile="$work/password" --auth=scram-sha-256 --no-sync \
    --locale=C --encoding=UTF8) >"$work/initdb.log" 2>&1 || fail "initdb failed"
  start db as_database postgres -D "$work/db" -c listen_addresses="$c" -c unix_socket_directories='' -c fsync=off
  until_so "PostgreSQL answers" pg_isready --username=shop --dbname=postgres --host="$c"
  psql --quiet --host="$c" --username=shop --dbname=postgres --command='CREATE DATABASE shop'
  psql --quiet --host="$c" --username=shop --dbname=shop --file=goods.sql
}
start_catalog() { # start_catalog HOST ADDRESS
  LISTEN=$2:8081 DATABASE_URL=postgresql://shop:$PGPASSWORD@$2:9005/shop start "catalog-$1" "$python" services/catalog.py
}

echo "== three hosts, one node each"
"$starling" ca init --dir "$work/CA" --trust-domain shop.example >"$work/ca.log"
issue() {
  local name=$1
  shift
  "$starling" ca issue --dir "$work/CA" --name "$name" "${@/#/--service=}" --out "$work/identity-$name" >>"$work/ca.log"
}
issue a front.shop pricing.shop
issue b catalog.shop cart.shop
issue c catalog.shop orders.shop db.shop redis.shop
for host in a b c; do
  start "$host" "$starling" agent -c "hosts/$host.toml" --set "identity.dir=$work/identity-$host" \
    --set "node.data_dir=$work/data-$host" --set "admin.socket=$work/$host.sock"
done

# Each program is told where others are by variables. It could as well be told http://catalog.shop.mesh, where a host has
# the capture installed; what the variables name here are the [[listener]]s of its host.
export PGPASSWORD=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
start redis redis-server --bind "$c" --port 6379 --save '' --dir "$work"
start_database
LISTEN=$a:50051 start pricing node services/pricing.js
LISTEN=$b:8082 REDIS_URL=redis://$b:9006 PRICING_ADDRESS=$b:9004 start cart "$python" services/cart.py
LISTEN=$c:8083 CART_URL=http://$c:9002 start orders "$orders"
LISTEN=$a:8080 CATALOG_URL=http://$a:9001 CART_URL=http://$a:9002 ORDERS_URL=http://$a:9003 start front node services/front.js
start_catalog b "$b"
start_catalog c "$c"
export SHOP_ADDRESS=$b:8000

for host in a b c; do
  until_so "host $host knows all services" services_known "$host"
  until_so "the programs of host $host answer" programs_answer "$host"
done
ask a members -o name | sort | sed 's/^/member: /'
ask a services -o json | "$python" -c 'import json, sys
for s in sorted(json.load(sys.stdin), key=lambda s: s["name"]): print("{name:14} {protocol:5} instances: {endpoints}".format(**s))'

echo "== alice buys bread and cheese"
"$python" shopper.py buy

echo "== catalog on host b is killed while eight customers look around"
"$python" shopper.py rush "${pid[catalog-b]}"
end_each catalog-b

echo "== what went through the mesh"
"$python" flows.py a "$a"
"$python" flows.py b "$b"
"$python" flows.py c "$c"

echo "== catalog on host b comes back"
# Its node says that it is gone after three connections that it did not accept: customers must go on looking for that.
until_so "host a knows that catalog on host b is gone" customers_find catalog_on b unhealthy
catalogs
start_catalog b "$b"
until_so "host a knows that catalog on host b is back" catalog_on b ready
catalogs
