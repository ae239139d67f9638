#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Do what a stranger does, on a Debian 12 that has git and make and nothing else: build, test, run.
# usage (root): tools/prove_bare_debian.sh [COMMAND...]    e.g. tools/prove_bare_debian.sh make build
# What is committed is cloned. BARE (default /tmp/eunomia-bare) keeps the bare system for the next time;
# AGAIN=1 goes on in the last one that was built in, with the clone renewed.
set -euo pipefail
say() { echo "== $*" >&2; }
here=$(cd "$(dirname "$0")/.." && pwd)
bare=${BARE:-/tmp/eunomia-bare}
root=$bare/root

[ "$(id -u)" = 0 ] || { echo "please run as root: sudo $0 $*" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "please run: apt-get install debootstrap" >&2; exit 1; }

# Mounts of our own: all of them are gone when this script is, however it ends.
if [ -z "${EUNOMIA_BARE_MOUNTS:-}" ]; then
    EUNOMIA_BARE_MOUNTS=1 exec unshare --mount --propagation private "$0" "$@"
fi

if [ ! -e "$bare/base/.complete" ]; then
    say "making a bare Debian 12 in $bare/base (once)"
    rm -rf "$bare/base" && mkdir -p "$bare"
    debootstrap --variant=minbase --include=git,make,ca-certificates bookworm "$bare/base" \
        "${MIRROR:-http://deb.debian.org/debian}" >"$bare/debootstrap.log" 2>&1
    touch "$bare/base/.complete"
fi
again=${AGAIN:+$([ ! -d "$root" ] || echo yes)}
if [ -n "$again" ]; then
    rm -rf "$root/root/eunomia"
else
    rm -rf "$root" && cp -a "$bare/base" "$root"
fi
git clone -q "$here" "$root/root/eunomia"

# The way to the package registries is this machine's.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

mount --bind "$root" "$root" # runc changes roots, so ours has to be a mount
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev

inside() {
    local begin=$SECONDS status=0
    say "$*"
    # not chroot: `docker exec` would end up in this machine's root, which is still that of the mounts
    unshare --mount --propagation private sh -c \
        'cd "$1" && shift && mkdir -p old && pivot_root . old && umount -l /old && exec "$@"' sh "$root" \
        /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
        sh -c 'cd /root/eunomia && "$@"' sh "$@" </dev/null || status=$?
    say "$1 ${2:-} ended with $status after $((SECONDS - begin)) s"
    return "$status"
}
for program in python3 clang gcc; do
    if [ -z "$again" ] && chroot "$root" sh -c "command -v $program" >/dev/null; then say "$program is there: not bare"; exit 1; fi
done
if [ $# -gt 0 ]; then
    inside "$@"
    exit
fi
inside make build
inside make build
inside .venv/bin/eunomia run process --count 1
inside make test
say "a bare Debian 12 builds, runs and tests Eunomia"
