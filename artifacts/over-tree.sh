# Sourced by layer.sh and images/machine-image.sh, which run as root in a mount namespace of their own.
# over_tree TREE WORK: mount the base tree, which is shared and read-only, at WORK/root, so that packages may be
# installed there. What is written goes to WORK/upper.
over_tree() {
    root=$2/root upper=$2/upper
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    mkdir -p "$upper" "$2/overlay" "$root"
    mount -t overlay -o "lowerdir=$1,upperdir=$upper,workdir=$2/overlay" overlay "$root"
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/tmp"
    # Not the computer's own /dev: systemd's package gives its devices to the groups of the tree.
    mount -t tmpfs tmpfs "$root/dev"
    for device in null zero full random urandom tty; do
        cp -a "/dev/$device" "$root/dev/"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service starts here
    chmod 755 "$root/usr/sbin/policy-rc.d"
}

# The tree as a machine will have it, still mounted.
leave_tree() {
    rm -f "$root/usr/sbin/policy-rc.d"
    umount "$root/dev" "$root/tmp" "$root/proc"
}
