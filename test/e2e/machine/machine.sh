#!/bin/bash
# A machine of its own under a real systemd, made of namespaces and of the Debian that runs this: its tree, read-only, under a memory that
# takes every change and is gone with the machine. Root.
#
#   machine.sh boot FOLDER NAME        boots in the foreground; ends when the machine is powered off or this is killed
#   machine.sh run FOLDER COMMAND...   runs a command inside
set -euo pipefail

folder=$2

# Hybrid machines have the unified hierarchy in a folder of its own.
cgroups=/sys/fs/cgroup
[ -e $cgroups/cgroup.procs ] || cgroups=$cgroups/unified

inside() {
  local root=$folder/root
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs "$folder"
  mkdir -p "$folder"/{changes,work,root}
  mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changes,workdir=$folder/work" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  local name
  for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
  done
  mkdir "$root"/dev/{pts,shm}
  mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  ip link set lo up
  # Of what is installed here nothing starts by itself: the units of the test are all there is.
  mkdir -p "$root/run/systemd/system"
  printf '[Unit]\nDescription=A machine for a test\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' >"$root/run/systemd/system/machine.target"
  local unit
  for unit in sysinit.target.wants basic.target.wants local-fs.target.wants sockets.target.wants timers.target.wants; do
    rm -rf "$root/etc/systemd/system/$unit"
  done
  for unit in systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service systemd-binfmt.service systemd-timesyncd.service systemd-networkd.service systemd-resolved.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount \
    kmod-static-nodes.service systemd-hwdb-update.service systemd-remount-fs.service systemd-sysctl.service systemd-machine-id-commit.service systemd-firstboot.service ldconfig.service systemd-sysusers.service; do
    ln -sf /dev/null "$root/run/systemd/system/$unit"
  done
  : >"$root/etc/fstab"
  rm -f "$root/etc/machine-id"
  head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root/etc/machine-id"
  echo $$ >"$folder.pid-inside"
  cd "$root"
  exec env -i container=ashlar-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    chroot . /lib/systemd/systemd --system --unit=machine.target --log-target=console --log-level=notice --show-status=no
}

case $1 in
  boot)
    mkdir -p "$folder"
    mkdir "$cgroups/$3"
    echo $$ >"$cgroups/$3/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child=SIGKILL --uts --ipc --net --cgroup "$0" inside "$folder"
    ;;
  inside) inside ;;
  run)
    shift 2
    pid=$(cat "$folder.pid")
    exec nsenter --target "$pid" --mount --pid --uts --ipc --net --cgroup --root --wd "$@"
    ;;
esac
