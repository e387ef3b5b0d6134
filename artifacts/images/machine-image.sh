#!/bin/sh
# Makes the disk of a virtual machine from a base tree. Runs as root; tools/vm_images.py calls it:
#   machine-image.sh KIND TREE FOLDER SIZE
# KIND is box (Vagrant: user vagrant with Vagrant's well-known public key, which Vagrant replaces at the first start)
# or image (Terraform: cloud-init). SIZE is the disk's in MiB. Writes FOLDER/disk.qcow2 and FOLDER/packages.txt.
# All mounts are in a mount namespace of its own: whatever happens, none is left.
set -eu

if [ "${5-}" != inside ]; then
    exec unshare --mount --propagation private -- sh "$0" "$1" "$2" "$3" "$4" inside
fi
kind=$1 tree=$2 folder=$3 size=$4
here=$(dirname "$0")
work=$folder/work
. "$here/../over-tree.sh"
over_tree "$tree" "$work"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"

# Settings of the initramfs first: it is generated once, with the modules of virtual machines only.
mkdir -p "$root/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\nRESUME=none\nFSTYPE=ext4\n' >"$root/etc/initramfs-tools/conf.d/lab.conf"
printf '%s\n' virtio_pci virtio_blk virtio_scsi virtio_net virtio_rng ahci sd_mod ext4 >"$root/etc/initramfs-tools/modules"
printf 'do_symlinks = yes\nlink_in_boot = yes\n' >"$root/etc/kernel-img.conf" # /boot/vmlinuz for the boot loader
echo 'LABEL=root / ext4 errors=remount-ro,noatime 0 1' >"$root/etc/fstab"

packages="linux-image-cloud-amd64 initramfs-tools zstd systemd-resolved systemd-timesyncd"
[ "$kind" = box ] || packages="$packages cloud-init cloud-guest-utils e2fsprogs"
# The tree's lists of packages stay as they are, to match the packages kept in it; newer lists only if they are stale.
# shellcheck disable=SC2086 # a list of words
install() { chroot "$root" apt-get install -q -y --no-install-recommends "$@" $packages; }
mkdir -p "$root/var/cache/apt/image"
if ! install -o Dir::Cache::archives=/var/cache/apt/image; then
    mkdir -p "$root/tmp/lists"
    chroot "$root" apt-get update -q -o Dir::State::lists=/tmp/lists
    install -o Dir::Cache::archives=/var/cache/apt/image -o Dir::State::lists=/tmp/lists
fi
rm -rf "$root/var/cache/apt/image"

# One interface is eth0 everywhere. A box asks for its address; cloud-init writes its own settings.
rm -f "$root"/etc/systemd/network/*
if [ "$kind" = box ]; then
    printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
        >"$root/etc/systemd/network/20-eth0.network"
    printf 'vagrant\n' >"$root/etc/hostname"
    printf '127.0.0.1\tlocalhost\n127.0.1.1\tvagrant\n::1\t\tlocalhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
    chroot "$root" useradd --create-home --shell /bin/bash vagrant
    echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
    chmod 440 "$root/etc/sudoers.d/vagrant"
    install_key="$root/home/vagrant/.ssh/authorized_keys"
    mkdir -p "$root/home/vagrant/.ssh"
    cp "$here/vagrant.pub" "$install_key"
    chmod 700 "$root/home/vagrant/.ssh"
    chmod 600 "$install_key"
    chroot "$root" chown -R vagrant:vagrant /home/vagrant
    # Host keys are a machine's own: made at its first start. RSA is left out, for it takes longest.
    cp "$here/ssh-host-keys.service" "$root/etc/systemd/system/ssh-host-keys.service"
    chroot "$root" systemctl enable ssh-host-keys.service
else
    cp "$here/cloud.cfg" "$root/etc/cloud/cloud.cfg.d/90-lab.cfg"
fi
chroot "$root" systemctl enable ssh.service systemd-networkd.service systemd-resolved.service
# What a lab's machine has no use for, or would change its packages behind its operator's back.
chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/systemd/random-seed" \
    "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
: >"$root/etc/machine-id"
mkdir -p "$root/boot/extlinux"
printf '%s\n' 'default linux' 'prompt 0' 'timeout 0' 'label linux' '  kernel ../vmlinuz' '  initrd ../initrd.img' \
    '  append root=LABEL=root ro quiet net.ifnames=0 console=tty0 console=ttyS0' >"$root/boot/extlinux/extlinux.conf"
leave_tree
chroot "$root" dpkg-query --show >"$folder/packages.txt"

# One partition from 1 MiB on, and its boot code before it.
truncate -s "${size}M" "$work/disk.raw"
echo '2048,,L,*' | sfdisk --quiet "$work/disk.raw"
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$work/disk.raw" conv=notrunc bs=440 count=1 status=none
# extlinux reads neither 64bit nor checksummed metadata.
mke2fs -q -F -t ext4 -O ^64bit,^metadata_csum -L root -d "$root" -E "offset=1048576,root_owner=0:0" \
    "$work/disk.raw" "$((size - 1))M"
umount "$root"
loop=$(losetup --find --show --offset 1048576 --sizelimit "$(((size - 1) * 1048576))" "$work/disk.raw")
trap 'losetup --detach "$loop"' EXIT
mkdir "$work/mnt"
mount "$loop" "$work/mnt"
extlinux --install "$work/mnt/boot/extlinux" >/dev/null 2>&1 || extlinux --install "$work/mnt/boot/extlinux"
umount "$work/mnt"
losetup --detach "$loop"
trap - EXIT
qemu-img convert -O qcow2 "$work/disk.raw" "$folder/disk.qcow2"
rm -rf "$work"
