#!/bin/sh
# Makes the disk that cloud-init reads, of META_DATA, USER_DATA and NETWORK_CONFIG: make-seed.sh FILE
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '%s' "$META_DATA" >"$folder/meta-data"
printf '%s' "$USER_DATA" >"$folder/user-data"
printf '%s' "$NETWORK_CONFIG" >"$folder/network-config"
mkdir -p "$(dirname "$1")"
genisoimage -quiet -output "$1" -volid cidata -joliet -rock "$folder"
