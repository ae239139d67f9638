#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Build the OCI image of the server: packaging/oci/build.sh [TAG]. Needs `make wheel` and docker (DOCKER="docker -H …").
# The base is BASE, a local image; if there is none, it is imported from TREE, a directory with Debian and Python, or
# else debootstrap makes that first (root, some 80 MB from a Debian mirror).
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd) root=$(cd "$(dirname "$0")/../.." && pwd)
tag=${1:-eunomia:latest} base=${BASE:-eunomia-base:bookworm}
read -ra docker <<<"${DOCKER:-docker}"
say() { echo "eunomia: $*" >&2; }

wheel=$(find "$root/dist" -maxdepth 1 -name 'eunomia-*.whl' | head -n 1)
[ -n "$wheel" ] || { say "there is no wheel in dist/: run make wheel"; exit 1; }
work=$(mktemp -d /tmp/eunomia-image.XXXXXX)
trap 'rm -rf "$work"' EXIT

if ! "${docker[@]}" image inspect "$base" >/dev/null 2>&1; then
    if [ -z "${TREE:-}" ]; then
        command -v debootstrap >/dev/null || { say "please run: apt-get install debootstrap"; exit 1; }
        say "making a Debian for the base image"
        debootstrap --variant=minbase --include=python3 bookworm "$work/base" \
            "${MIRROR:-http://deb.debian.org/debian}" >"$work/debootstrap.log" 2>&1 \
            || { tail -n 5 "$work/debootstrap.log" >&2; exit 1; }
    fi
    say "importing the base image $base"
    tar -C "${TREE:-$work/base}" --exclude=./var/cache/apt/archives/*.deb --exclude=./var/lib/apt/lists/* -c . \
        | "${docker[@]}" import - "$base" >/dev/null
fi

say "collecting Python packages"
mkdir "$work/context"
"$root/.venv/bin/python" -m pip install --disable-pip-version-check -qq --no-compile --target "$work/context/site" \
    "${wheel}[server]"
printf '#!/usr/bin/python3\nimport sys\n\nfrom eunomia.cli import main\n\nsys.exit(main())\n' >"$work/context/eunomia"
chmod -R a+rX "$work/context"
chmod 755 "$work/context/eunomia"
say "building $tag"
"${docker[@]}" build --quiet --build-arg "BASE=$base" --tag "$tag" --file "$here/Dockerfile" "$work/context"
