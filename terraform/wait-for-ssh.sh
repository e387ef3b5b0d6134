#!/bin/sh
# Waits until a new machine lets its user in, and pins its host key: wait-for-ssh.sh USER ADDRESS KEY KNOWN_HOSTS SECONDS
set -eu
user=$1 address=$2 key=$3 known=$4 deadline=$(($(date +%s) + $5))
mkdir -p "$(dirname "$known")"
rm -f "$known" # of an earlier machine with this address
until ssh -i "$key" -l "$user" -o BatchMode=yes -o ConnectTimeout=10 -o IdentitiesOnly=yes \
    -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="$known" -o GlobalKnownHostsFile=/dev/null \
    "$address" true 2>/dev/null </dev/null; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
        echo "$address does not let $user in after $5 s. See its console: virsh -c qemu:///system console MACHINE." >&2
        exit 1
    fi
    sleep 2
done
chmod 600 "$known"
