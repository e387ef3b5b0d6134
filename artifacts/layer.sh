#!/bin/sh
# Makes a layer of installed packages over a base tree, from the files that are kept in it. Runs as root in a mount
# namespace of its own; tools/preparing/layers.py calls it: layer.sh TREE FOLDER PACKAGE...
# Nothing in the layer is a machine's own, and nothing of it starts by itself: that is for the roles.
set -eu

tree=$1 folder=$2
shift 2
. "$(dirname "$0")/over-tree.sh"
over_tree "$tree" "$folder"
chroot "$root" apt-get install -q -y --no-install-recommends --no-download "$@"
leave_tree
umount "$root"

# postgresql.service only holds the clusters together, of which there are none yet.
find "$upper" -path '*/etc/systemd/system/*.wants/*' ! -name postgresql.service -delete
# What must be a machine's own: PostgreSQL's cluster, and the key of Debian's snake oil certificate.
rm -rf "$upper"/etc/postgresql/* "$upper"/var/lib/postgresql/* "$upper"/var/log/postgresql/* \
    "$upper/etc/ssl/private/ssl-cert-snakeoil.key" "$upper/etc/ssl/certs/ssl-cert-snakeoil.pem"
find "$upper" -lname ssl-cert-snakeoil.pem -delete
rm -rf "$upper/run" "$upper"/var/cache/apt/archives "$upper"/var/log/apt "$upper"/var/log/*.log

mv "$upper"/* "$folder"
rm -r "$upper" "$folder/overlay" "$root"
chown root:root "$folder" # In an overlay the upper layer's folder gives the owner.
