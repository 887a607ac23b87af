#!/usr/bin/busybox sh
# The first process of a virtual machine: drivers, disks and network, then the one that takes the host's orders.
# Its own programs are busybox's. /machine, which the host wrote, says NAME, ADDRESS and DISKS (device:folder ...).
set -eu
PATH=/usr/sbin:/usr/bin
. /machine

for folder in proc sys dev run tmp; do mkdir -p /$folder; done
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
modprobe -a virtio_pci virtio_rng virtio_console virtio_blk virtio_net ext4 fuse nf_tables

for disk in $DISKS; do
    mkdir -p "${disk#*:}"
    mount -t ext4 "${disk%%:*}" "${disk#*:}"
done
hostname "$NAME"
ip link set lo up
ip address add "$ADDRESS" dev eth0
ip link set eth0 up
exec python3 -I -S /orders.py
