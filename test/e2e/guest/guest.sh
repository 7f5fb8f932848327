#!/usr/bin/env bash
# A small Linux guest out of Debian's packages, for tests that need a kernel of their own: the kernel's NBD client, a disk on
# a volume. Boots in about 5 s without KVM (GUEST_ACCEL=kvm chooses it where nested virtualization works).
#
#   guest.sh build DIR                          makes DIR/vmlinuz and DIR/initrd (busybox, nbd, virtio, ext4, mkfs.ext4, e2fsck, nbd-client)
#   guest.sh run DIR 'commands' [options…]      boots with more options for QEMU, runs the commands, prints the console, exits with their status
#
# A server on this machine's loopback is 10.0.2.2 in the guest.
set -euo pipefail
command=$1 dir=$(realpath -m "$2")
shift 2
w=$(mktemp -d)
trap 'rm -rf "$w"' EXIT

build() {
  mkdir -p "$dir" "$w/deb" "$w/r"/{bin,sbin,dev,proc,sys,tmp,run,mnt,etc,lib,usr/bin,usr/sbin,modules}
  local image version file so
  image=$(apt-cache depends linux-image-amd64 | awk '/Depends/{print $2; exit}')
  # apt downloads as a user of its own.
  chmod 777 "$w" "$w/deb"
  (cd "$w/deb" && apt-get download -qq "$image" nbd-client)
  dpkg -x "$w"/deb/linux-image-*.deb "$w/k"
  dpkg -x "$w"/deb/nbd-client*.deb "$w/n"
  cp "$w"/k/boot/vmlinuz-* "$dir/vmlinuz"
  version=$(basename "$w"/k/lib/modules/*)
  depmod -b "$w/k" "$version"
  for module in virtio_pci virtio_blk virtio_net nbd ext4 crc32c_generic; do
    modprobe -d "$w/k" -S "$version" --show-depends "$module" | awk '$1=="insmod"{print $2}'
  done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$w/r/modules/"
    basename "$file" >>"$w/r/modules/order"
  done
  cp /bin/busybox "$w/r/bin/"
  for file in $(/bin/busybox --list); do [ -e "$w/r/bin/$file" ] || ln -s busybox "$w/r/bin/$file"; done
  for file in "$w"/n/sbin/nbd-client "$w"/n/usr/sbin/nbd-client /sbin/mkfs.ext4 /sbin/e2fsck; do
    [ -f "$file" ] || continue
    rm -f "$w/r/bin/$(basename "$file")"
    cp -L "$file" "$w/r/bin/"
    if ldd "$file" 2>/dev/null | grep 'not found' >&2; then echo "$file misses a library here" >&2; exit 1; fi
    { ldd "$file" 2>/dev/null || true; } | grep -oE '/[^ ]+\.so[^ ]*' | while read -r so; do
      mkdir -p "$w/r$(dirname "$so")"
      cp -nL "$so" "$w/r$so"
    done
  done
  cat >"$w/r/init" <<'INIT'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
while read -r m; do insmod /modules/$m 2>/dev/null; done </modules/order
ip link set lo up; ip link set eth0 up 2>/dev/null && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2
: >/etc/mtab; echo "guest up: Linux $(uname -r)"
sh /cmd; echo "guest-exit $?"
sync; poweroff -f
INIT
  chmod +x "$w/r/init"
  (cd "$w/r" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd"
}

run() {
  local commands=$1 status
  shift
  printf '%s\n' "$commands" >"$w/cmd"
  (cd "$w" && echo cmd | cpio -o -H newc --quiet | gzip -1) >"$w/extra"
  cat "$dir/initrd" "$w/extra" >"$w/initrd"
  # no_timer_check: on a busy machine the timer of an emulated processor is late, and the kernel would panic.
  qemu-system-x86_64 -machine q35,accel="${GUEST_ACCEL:-tcg}" -cpu max -m 512 -smp 1 -nographic -no-reboot -nodefaults -serial stdio -kernel "$dir/vmlinuz" -initrd "$w/initrd" \
    -append "console=ttyS0 quiet panic=-1 no_timer_check" -netdev user,id=n -device virtio-net-pci,netdev=n,romfile= "$@" </dev/null | tee "$w/out"
  status=$(tr -d '\r' <"$w/out" | awk '/^guest-exit /{s=$2} END{print s}')
  exit "${status:-99}"
}

"$command" "$@"
