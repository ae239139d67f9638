#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Install the Debian packages that a make target needs and this machine lacks; silent when none is.
# usage: tools/install_needs.sh build|test|bench|kernels
set -u -o pipefail

# what must be there (a program, or a file by pattern) | Debian's package | what for
python="
/usr/bin/python3 | python3 | runs Eunomia
/usr/lib/python3*/ensurepip | python3-venv | keeps Eunomia's Python packages in .venv
/usr/include/python3*/Python.h | python3-dev | headers for the binding to libbpf
"
build="
gcc | gcc | compiles the binding to libbpf
/usr/include/stdlib.h | libc6-dev | headers for the binding to libbpf
/usr/include/bpf/libbpf.h | libbpf-dev | loads probes into the kernel
clang | clang | compiles probes for the kernel
llvm-strip | llvm | makes compiled probes small
"
test="
dockerd | docker.io | real containers for the tests
docker | docker.io | real containers for the tests
containerd | containerd | real containers for the tests
lxc-start | lxc | real containers for the tests
newuidmap | uidmap | real containers of ordinary users for the tests
podman | podman | real containers for the tests
runc | runc | real containers for the tests
docker-registry | docker-registry | a real registry for the tests
systemd-socket-activate | systemd | opens sockets as the service manager does
openssl | openssl | keys, certificates and signatures that Eunomia did not make
/usr/lib/cni/ptp | containernetworking-plugins | a network for the tests' pods
ip | iproute2 | a network for the test containers
iptables | iptables | a network for the test containers
/var/lib/dpkg/info/busybox-static.list | busybox-static | the test containers' image
ps | procps | looks at what the tests leave behind
strace | strace | lists the system calls of the server
systemd-analyze | systemd | checks the unit files
capsh | libcap2-bin | names capabilities as the kernel does
bpftool | bpftool | counts what is left in the kernel, and writes its types as C
zsh | zsh | tries the completion of commands
fish | fish | tries the completion of commands
"
kernels="
qemu-system-x86_64 | qemu-system-x86 | runs other kernels
/usr/lib/qemu/virtiofsd | qemu-system-common | shows them this machine's files
/var/lib/dpkg/info/busybox-static.list | busybox-static | starts them
xz | xz-utils | unpacks their modules
"
bench="
/usr/sbin/execsnoop | libbpf-tools | the C twins to compare with
bpftrace | bpftrace | another tracer to compare with
wrk | wrk | load for the web server
nginx | nginx-light | a web server under load
"

say() { echo "eunomia: $*" >&2; }
die() { say "$*"; exit 1; }
there() {
    case $1 in
        /*) compgen -G "$1" >/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

case ${1:-} in
    build) needs=$build ;;
    test) needs=$build$test ;;
    bench) needs=$build$test$bench ;;
    kernels) needs=$build$test$kernels ;;
    *) echo "usage: ${0##*/} build|test|bench|kernels" >&2; exit 2 ;;
esac
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
[ "${PYTHON:-/usr/bin/python3}" != /usr/bin/python3 ] || needs=$python$needs # another Python brings its own

missing=() reasons=()
while IFS='|' read -r check package reason; do
    check=${check// /} package=${package// /}
    if [ -z "$check" ] || there "$check"; then continue; fi
    case " ${missing[*]:-} " in *" $package "*) continue ;; esac
    missing+=("$package")
    reasons+=("$(printf '  %-16s %s' "$package" "${reason# }")")
done <<<"$needs"
[ ${#missing[@]} -gt 0 ] || exit 0

say "this machine lacks ${#missing[@]} of the packages that 'make $1' needs:"
printf '%s\n' "${reasons[@]}" >&2
apt=(apt-get install -y --no-install-recommends "${missing[@]}")
command -v apt-get >/dev/null || die "this is no Debian: please install what matches these packages, then try again"
[ "$(id -u)" = 0 ] || die "please run: sudo ${apt[*]}"

log=$(mktemp /tmp/eunomia-apt.XXXXXX)
policy=/usr/sbin/policy-rc.d
cleanup() { [ -z "${kept_off:-}" ] || rm -f "$policy"; }
trap cleanup EXIT
trap 'exit 130' INT TERM
if [ ! -e "$policy" ]; then # only their programs are needed, so Docker and nginx are not started as services
    kept_off=1
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
fi

# apt's own progress, a line for every tenth
progress() {
    local kind percent last=-1 step
    while IFS=: read -r kind _ percent _; do
        step=${percent%%.*}
        case $kind:$step in *[!a-z:0-9]* | *:) continue ;; esac
        step=$((step / 10 * 10))
        if [ "$kind" = dlstatus ]; then verb=downloading; else verb=installing; fi
        [ "$verb$step" = "$last" ] || say "  $verb: $step %"
        last=$verb$step
    done
}
export DEBIAN_FRONTEND=noninteractive
say "step 1 of 2: refreshing the package lists (log: $log)"
apt-get -q -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 </dev/null \
    || say "  not every package source could be reached; trying with those that could"
say "step 2 of 2: ${apt[*]}"
if ! "${apt[0]}" -q -o DPkg::Lock::Timeout=300 -o APT::Status-Fd=3 "${apt[@]:1}" 3>&1 >>"$log" 2>&1 </dev/null | progress; then
    tail -n 25 "$log" >&2
    die "apt-get could not install them; its last words are above, all of them in $log"
fi
rm -f "$log"
say "installed"
