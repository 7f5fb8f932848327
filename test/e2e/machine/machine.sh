#!/bin/bash
# A machine of its own under a real systemd, made of namespaces and of the Debian that runs this: its tree, read-only, under a memory that
# takes every change and is gone with the machine. Root.
#
#   machine.sh boot FOLDER SHARED NAME   boots in the foreground; ends when this is killed. SHARED is its /mnt; NAME of its control group
#   machine.sh run PID COMMAND...        runs a command inside; PID: of `boot`
#   machine.sh connect SWITCH PID ADDRESS  gives it a network card at that switch (a namespace, made when it is not there)
#   machine.sh clean NAME                afterwards; `clean-switch SWITCH` likewise
set -euo pipefail

# Hybrid machines have the unified hierarchy in a folder of its own.
cgroups=/sys/fs/cgroup
[ -e $cgroups/cgroup.procs ] || cgroups=$cgroups/unified

inside() {
  local folder=$1 root=$1/root
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
  mount --bind "$2" "$root/mnt"
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
  # Not merely chroot: whoever is in one may not make user namespaces (PrivateUsers=).
  cd "$root"
  mkdir -p former
  pivot_root . former
  cd /
  umount -l /former
  rmdir /former
  exec env -i container=ashlar-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    /lib/systemd/systemd --system --unit=machine.target --log-target=console --log-level=notice --show-status=no
}

case $1 in
  boot)
    mkdir -p "$2"
    mkdir "$cgroups/$4"
    echo $$ >"$cgroups/$4/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child=SIGKILL --uts --ipc --net --cgroup "$0" inside "$2" "$3"
    ;;
  inside) inside "$2" "$3" ;;
  run)
    pid=$(cat "/proc/$2/task/$2/children")
    pid=${pid% }
    shift 2
    exec nsenter --target "$pid" --mount --pid --uts --ipc --net --cgroup --root --wd env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb "$@"
    ;;
  connect)
    if ! ip netns list | grep -q "^$2\>"; then
      ip netns add "$2"
      ip -n "$2" link add switch type bridge
      ip -n "$2" link set switch up
    fi
    pid=$(cat "/proc/$3/task/$3/children")
    pid=${pid% }
    ip -n "$2" link add "p${4##*.}" type veth peer name eth0 netns "$pid"
    ip -n "$2" link set "p${4##*.}" master switch up
    nsenter --target "$pid" --net ip address add "$4/24" dev eth0
    nsenter --target "$pid" --net ip link set eth0 up
    ;;
  clean-switch)
    # None where no machine came so far.
    if ip netns list | grep -q "^$2\>"; then ip netns del "$2"; fi
    ;;
  clean)
    # Fails while something of it still ends.
    find "$cgroups/$2" -depth -type d -exec rmdir {} +
    ;;
esac
