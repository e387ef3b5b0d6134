#!/bin/sh
# Makes the tree of files that every container machine stands on. Runs as root; tools/prepare.py calls it:
#   base-tree.sh RELEASE FOLDER "BASE PACKAGES" "KEPT PACKAGES" [mmdebstrap option...] -- SOURCES.LIST LINE...
# FOLDER must not exist or be empty. Nothing of the controller's goes in, but the mirror that it uses itself.
set -eu

if [ "${1-}" = hook ]; then # Called by mmdebstrap with the tree, when its base packages are installed.
    kept=$2 tree=$3
    export DEBIAN_FRONTEND=noninteractive
    rm -f "$tree"/var/cache/apt/archives/*.deb # of what is installed by now
    # Each package with what it depends on, whichever other packages come along: first one by one, then all together.
    for package in $kept; do
        chroot "$tree" apt-get install --download-only --no-install-recommends -qq "$package"
    done
    # shellcheck disable=SC2086 # a list of words
    chroot "$tree" apt-get install --download-only --no-install-recommends -qq $kept
    chroot "$tree" apt-cache gencaches # 1 s of processor time less for each machine's first use of apt

    chroot "$tree" systemctl enable ssh.service systemd-networkd.service
    # The lists of packages must go on matching the packages that are kept; upgrades are the operator's decision.
    chroot "$tree" systemctl disable apt-daily.timer apt-daily-upgrade.timer
    echo LANG=C.UTF-8 >"$tree/etc/default/locale"
    printf '127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n' >"$tree/etc/hosts"

    # What must be a machine's own.
    rm -f "$tree"/etc/ssh/ssh_host_* "$tree/etc/hostname" "$tree/var/lib/dbus/machine-id" \
        "$tree/var/lib/systemd/credential.secret" "$tree/var/lib/systemd/random-seed"
    : >"$tree/etc/machine-id"
    exit
fi

release=$1 tree=$2 base=$3 kept=$4
shift 4
options=
while [ "$1" != -- ]; do
    options="$options $1"
    shift
done
shift

# The dpkg options stay in the tree, so that what roles install has no manual pages either. A machine that loses its
# power while it installs is made anew, so dpkg need not wait for the disk after each file.
# shellcheck disable=SC2086 # options without blanks
printf '%s\n' "$@" | mmdebstrap --mode=root --variant=minbase --format=directory \
    --include="$(echo "$base" | tr ' ' ,)" \
    --skip=cleanup/apt \
    --aptopt='Acquire::Languages "none"' \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='force-unsafe-io' \
    --customize-hook="sh '$0' hook '$kept' \"\$1\"" \
    $options "$release" "$tree" -

chown root:root "$tree" # where not root made the folder
# mmdebstrap itself takes the controller's resolv.conf in and out; only now is the place ours.
rm -f "$tree/etc/resolv.conf" "$tree/etc/hostname"
: >"$tree/etc/resolv.conf"
rm -f "$tree"/var/cache/apt/archives/lock "$tree"/var/lib/apt/lists/lock
find "$tree/tmp" "$tree/run" "$tree/var/log" -xdev -type f -delete
sync -f "$tree"
