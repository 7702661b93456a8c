#!/bin/sh
# First process of the virtual machine: mounts, runs the test program, says how it ended, powers off.
# Its words go to the first serial line, the kernel's to the second.
export PATH=/usr/bin HOME=/root WEFT_BIN=/usr/bin/weft WEFT_CHECKS=/checks WEFT_LAB_PATIENCE=5 RUST_BACKTRACE=1
if [ "$1" != again ]; then
    mount -t tmpfs -o size=90% tmpfs /tmp
    # pivot_root, with which containers start, refuses the initial root because it has no parent. A mount over it has.
    mount --bind / /mnt && cd /mnt && mount --move . / && exec chroot . /init again
fi
cd /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for dir in /run /tmp /var/lib; do mount -t tmpfs -o size=90% tmpfs $dir; done
ln -sf /proc/self/fd /dev/fd
mkdir -p /run/netns
mount --make-rshared /
ip link set lo up
# New namespaces take it from the first one. Docker's load balancers forward, and rely on its daemon's having set it here.
echo 1 >/proc/sys/net/ipv4/ip_forward
hostname vm
exec </dev/null >/dev/ttyS0 2>&1
echo "kernel $(cat /proc/sys/kernel/osrelease), up after $(cut -d. -f1 /proc/uptime) s"
verdict=0
. /checks/run
echo "weft-vm: ended with $verdict"
sleep 0.2
echo o >/proc/sysrq-trigger
sleep 100
