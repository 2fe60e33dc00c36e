#!/usr/bin/env bash
# Installs the Python and Node packages of the shop's services outside of the repository, once, and prints where they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cache=${SHOP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/starling-shop}
# Other versions, of packages or of the programs that run them, have a directory of their own.
place=$cache/$( (cat requirements.txt package-lock.json; python3 --version; node --version) | sha256sum | cut -c1-16)
mkdir -p "$place"
exec 9>"$place/lock"
flock 9
if [ ! -e "$place/complete" ]; then
  echo "installing packages into $place" >&2
  python3 -m venv --clear "$place/python" >&2
  "$place/python/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt >&2
  cp package.json package-lock.json "$place"
  npm ci --prefix "$place" --ignore-scripts --no-audit --no-fund --loglevel error >&2
  touch "$place/complete"
fi
echo "$place"
