#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Run tests of this checkout on a stock Debian kernel, in a virtual machine; its exit code is pytest's.
# usage: tools/try_kernel.sh KERNEL [ARGUMENTS OF PYTEST]      (root)
#        tools/try_kernel.sh KERNEL -- COMMAND [ARGUMENTS]
#
# KERNEL is a version (6.1, 6.12), the newest cloud kernel of which is taken that apt knows, or a package's
# whole one (6.1.0-56-cloud-amd64). Nothing is installed but qemu and busybox: kernels are unpacked below
# ~/.cache/eunomia-kernels (EUNOMIA_KERNELS).
#
# The guest has this machine's files, as they are now: what it writes goes to its own memory and is gone
# with it. It has cgroup v2 alone, no network, and one processor, which is emulated: C runs at a half to a
# fiftieth of the speed, Python at a thirtieth; tests wait longer there (EUNOMIA_PATIENCE).
set -u -o pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
store=${EUNOMIA_KERNELS:-${XDG_CACHE_HOME:-$HOME/.cache}/eunomia-kernels}
limit=${EUNOMIA_KERNEL_SECONDS:-3600}
DIED=125
# what the guest needs before it sees this machine's files
MODULES="virtio_pci virtio_console virtiofs overlay"

say() { echo "eunomia: $*" >&2; }
die() { say "$*"; exit 1; }

[ $# -gt 0 ] || { sed -n '3,5s/^# //p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || die "it takes root to share this machine's files: sudo $0 $*"
"$here/tools/install_needs.sh" kernels || exit 1
version=$1
shift
case $version in
    *-*) release=$version ;;
    *)
        release=$(apt-cache search --names-only "^linux-image-${version//./\\.}[.+-][.+0-9a-z-]*cloud-amd64\$" \
            | sed 's/^linux-image-//; s/ .*//' | sort -V | tail -n 1)
        [ -n "$release" ] || die "apt knows no cloud kernel $version: apt-get update, or name a package's whole version"
        ;;
esac

# The kernel: fetched once, its modules unpacked and indexed.
kernel=$store/$release
if [ ! -e "$kernel/ready" ]; then
    say "fetching $release"
    rm -rf "$kernel" && mkdir -p "$kernel" && cd "$kernel" || exit 1
    apt-get download -qq -o APT::Sandbox::User=root "linux-image-$release" >&2 || die "apt-get cannot download linux-image-$release"
    dpkg-deb -x linux-image-*.deb . && rm linux-image-*.deb
    [ -d lib/modules ] || ln -s usr/lib lib
    find -L lib/modules -name '*.ko.xz' -print0 | xargs -0 -r xz -d
    busybox depmod -b "$kernel" "$release" || die "the modules of $release cannot be indexed"
    touch ready
fi
cd "$here" || exit 1
modules=$(realpath "$kernel/lib/modules/$release")

work=$(mktemp -d /tmp/eunomia-vm.XXXXXX)
daemon=
cleanup() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# What runs in the guest when it has this machine's files.
if [ "${1:-}" = -- ]; then
    shift
    command=("$@")
else
    # here, where it is quick: what pytest makes of the tests' files, as it keeps them
    PYTHONDONTWRITEBYTECODE='' "$here/.venv/bin/python" -m pytest -q --collect-only -p no:cacheprovider --rootdir "$here" \
        -c "$here/pyproject.toml" "$@" >"$work/collected" || { cat "$work/collected" >&2; exit 2; }
    command=("$here/.venv/bin/python" -m pytest -p no:cacheprovider "$@")
fi
{
    cat <<SETUP
here=$(printf %q "$here") modules=$(printf %q "$modules") release=$release patience=$(printf %q "${EUNOMIA_PATIENCE:-20}")
SETUP
    cat <<'SETUP'
bb=/run/bin/busybox
port() { grep -lx "$1" /sys/class/virtio-ports/*/name | sed 's,.*/\(vport[^/]*\)/name,/dev/\1,'; }
$bb mkdir -p /dev/pts /dev/shm "/lib/modules/$release"
$bb mount -t devpts devpts /dev/pts
$bb mount -t tmpfs tmpfs /dev/shm
$bb mount --bind "/run/host$modules" "/lib/modules/$release"
for name in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do $bb ln -sfn "/proc/self/${name#*:}" "/dev/${name%%:*}"; done
$bb mount -t bpf bpf /sys/fs/bpf
$bb mount -t tracefs tracefs /sys/kernel/tracing
$bb mount -t cgroup2 cgroup2 /sys/fs/cgroup
for one in $($bb cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$one" >/sys/fs/cgroup/cgroup.subtree_control
done
# Docker's file systems cannot lie on the overlay that / is
$bb mkdir -p /run/checkout /var/lib/docker
$bb mount --bind "$here" /run/checkout
$bb mount -t tmpfs -o mode=1777 tmpfs /tmp
$bb mount -t tmpfs tmpfs /var/lib/docker
[ -d "$here" ] || { $bb mkdir -p "$here" && $bb mount --bind /run/checkout "$here"; }
# whoever asks for a kernel's module
for place in /sbin /usr/sbin; do [ -e $place/modprobe ] || $bb ln -s $bb $place/modprobe; done
echo /sbin/modprobe >/proc/sys/kernel/modprobe
$bb ip link set lo up
export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PYTHONDONTWRITEBYTECODE=1 EUNOMIA_PATIENCE=$patience TMPDIR=/tmp
cd "$here"
SETUP
    printf '$bb setsid %s </dev/null >"$(port out)" 2>&1\n' "$(printf '%q ' "${command[@]}")"
    cat <<'SETUP'
echo $? >"$(port code)"
$bb sleep 0.5
$bb poweroff -f
SETUP
} >"$work/stage"

# The first file system: finds this machine's, puts a layer of memory on it, and goes there.
root=$work/initramfs
mkdir -p "$root/bin" "$root/lib/modules/$release"
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$work/stage" "$root/stage"
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /proc /sys /dev /memory /all
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
exec >/dev/console 2>&1
for name in MODULES; do $bb modprobe $name; done
$bb mount -t tmpfs -o mode=755 tmpfs /memory
$bb mkdir -p /memory/host /memory/upper /memory/work /memory/bin
$bb mount -t virtiofs -o ro host /memory/host || $bb poweroff -f
$bb mount -t overlay -o lowerdir=/memory/host,upperdir=/memory/upper,workdir=/memory/work overlay /all || $bb poweroff -f
$bb mount -t tmpfs -o mode=755 tmpfs /all/run
$bb mkdir /all/run/bin /all/run/host
$bb cp /bin/busybox /stage /all/run/bin/
$bb mount --move /memory/host /all/run/host
for name in proc sys dev; do $bb mount --move /$name /all/$name; done
exec $bb switch_root /all /run/bin/busybox sh /run/bin/stage
INIT
sed -i "s/ MODULES;/ $MODULES;/" "$root/init"
chmod +x "$root/init"
for name in $MODULES; do
    grep "/$name\.ko:" "$modules/modules.dep" | tr -d : | xargs -rn 1 # none where it is built in
done | sort -u | (cd "$modules" && xargs -r cp --parents -t "$root/lib/modules/$release")
cp "$modules"/modules.* "$root/lib/modules/$release/"
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/initrd"

/usr/lib/qemu/virtiofsd --socket-path="$work/files" -o source=/ -o cache=always -o sandbox=chroot >"$work/virtiofsd.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do [ -S "$work/files" ] && break; sleep 0.05; done
: >"$work/code"
mkfifo "$work/out"
cat "$work/out" &
reader=$!
say "booting $release"
# One processor: with several, qemu 7.2 crashes guests that patch their own code, as tracepoints do.
timeout --foreground "$limit" qemu-system-x86_64 -M pc -accel tcg,tb-size=512 -cpu max,la57=off -smp 1 \
    -m 3G -object memory-backend-memfd,id=memory,size=3G,share=on -numa node,memdev=memory \
    -nodefaults -no-user-config -display none -no-reboot -device virtio-rng-pci \
    -chardev "socket,id=files,path=$work/files" -device vhost-user-fs-pci,chardev=files,tag=host \
    -device virtio-serial-pci \
    -chardev "file,id=out,path=$work/out" -device virtserialport,chardev=out,name=out \
    -chardev "file,id=code,path=$work/code" -device virtserialport,chardev=code,name=code \
    -serial "file:$work/console" -kernel "$kernel/boot/vmlinuz-$release" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 nowatchdog tsc=reliable random.trust_cpu=on lsm=capability,landlock,yama,bpf" \
    </dev/null
ended=$?
[ -s "$work/code" ] || timeout 1 bash -c ": >'$work/out'" # where it never came to write
wait "$reader"
if [ -s "$work/code" ]; then exit "$(cat "$work/code")"; fi
tail -n 30 "$work/console" >&2
[ $ended = 124 ] && die "$release: no end after $limit s (EUNOMIA_KERNEL_SECONDS)"
say "$release: the machine stopped before the tests ended; its last words are above"
exit $DIED
