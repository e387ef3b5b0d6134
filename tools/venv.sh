#!/usr/bin/env bash
# Makes .venv: the locked Python dependencies, installed once into the user's cache and shared by all clones.
# Cut off half-way, it begins again; two at once wait for each other.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() { echo "$*" >&2; exit 1; }
[ "$(uname -s)" = Linux ] || fail "The lab runs on Linux only; this is $(uname -s). Run it in a Linux virtual machine."
command -v "$python" >/dev/null || fail "Python 3 is missing: apt-get install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "Python 3.11 or newer is needed, $python is $("$python" -V): set PYTHON to a newer one."

if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  command -v apt-get >/dev/null || fail "Python's venv module is missing: install it with your package manager."
  echo "Installing python3-venv ..."
  if [ "$(id -u)" = 0 ]; then sudo=; else
    command -v sudo >/dev/null || fail "Installing python3-venv needs root or sudo; you have neither."
    sudo=sudo
  fi
  $sudo apt-get update -qq
  $sudo apt-get install -y -qq --no-install-recommends python3-venv
fi

key=$({ "$python" -VV; cat requirements.txt tools/venv.sh; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hashistack-lab
venv=$cache/venv-$key
mkdir -p "$cache"
exec 9>"$cache/venv.lock"
flock 9
if [ ! -e "$venv/complete" ]; then
  echo "Installing the Python dependencies ..."
  started=$SECONDS
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
  # Molecule calls ansible-config, ansible-playbook and pytest by their names, also where the venv is not activated.
  cat > "$venv/bin/molecule" <<'END'
#!/bin/sh
bin=$(dirname "$(readlink -f "$0")")
PATH=$bin:$PATH:/usr/sbin:/sbin exec "$bin/python" -P -m molecule "$@"
END
  touch "$venv/complete"
  echo "Installed the Python dependencies in $((SECONDS - started)) s"
fi
[ "$(readlink .venv || true)" = "$venv" ] || { rm -rf .venv; ln -s "$venv" .venv; }
