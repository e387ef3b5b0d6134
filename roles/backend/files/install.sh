#!/bin/sh
# Builds a release from its wheels, without an index, and forgets the oldest ones.
# Usage: install.sh RELEASE KEEP
set -eu
umask 022
home=/opt/backend release=$1 keep=$2
wheels=$home/wheels/$release directory=$home/releases/$release

rm -rf "$directory"
mkdir -p "$home/releases"
python3 -m venv --without-pip "$directory"
# Debian's own pip, from the wheel that python3-venv brings along.
pip=$(ls /usr/share/python-wheels/pip-*.whl)
python3 "$pip/pip" --python "$directory/bin/python" install --quiet --disable-pip-version-check --no-cache-dir \
    --no-index --find-links "$wheels" --require-hashes --requirement "$wheels/requirements.txt"
sync -f "$directory"
touch "$directory/.complete" # only now does it count
rm -rf "$wheels"

# The newest stay, and the one that runs.
current=$(readlink "$home/current" || true)
ls -1t "$home/releases" | tail -n +$((keep + 2)) | while read -r old; do
    [ "releases/$old" = "$current" ] || rm -rf "$home/releases/$old"
done
