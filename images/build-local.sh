#!/usr/bin/env bash
# Builds both images on this machine with neither a registry nor BuildKit: the static binaries of
# `make build` on a minimal Debian root that debootstrap makes (kept as target/images/root-SUITE.tar).
#
#   images/build-local.sh [workspace-base] [workspace-proxy]     (default: both)
#
# BASE=IMAGE takes an image that the daemon already has as the base instead of debootstrap.
# TAG=NAME tags the images with NAME instead of latest. SOURCE=URL and SOURCE_DATE_EPOCH go into
# the labels, see images/build-args.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${SUITE:-bookworm}
tag=${TAG:-latest}
state=target/images
root=$state/root-$suite.tar
base=${BASE:-workspace-root:$suite}

fail() {
    echo "images: $*" >&2
    exit 1
}
need() { command -v "$1" >/dev/null || fail "$1 is not installed (Debian: apt-get install $2)"; }

# The mirror that this machine's apt already uses, so that no other is needed.
mirror() {
    # shellcheck disable=SC2016  # apt expands this, not the shell
    apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -E '/debian/?$' | head -n 1
}

# A subshell, so that its trap clears a half-made root away however it ends.
make_root() (
    need debootstrap debootstrap
    [ "$(id -u)" = 0 ] || fail "debootstrap needs root (or set BASE to an image the daemon has)"
    mkdir -p "$state"
    work=$(mktemp -d)
    trap 'rm -rf -- "$work"' EXIT
    chmod 0755 "$work"
    found=$(mirror || true)
    debootstrap --variant=minbase "$suite" "$work" ${found:+"$found"} >"$state/debootstrap.log" 2>&1 ||
        fail "debootstrap failed; see $state/debootstrap.log"
    # What only installing packages needs, and what names the machine it was made on.
    rm -rf -- "$work"/var/cache/apt/* "$work"/var/lib/apt/lists/* "$work"/var/log/*.log \
        "$work"/usr/share/{doc,man,info,locale}/* "$work"/etc/{hostname,resolv.conf}
    tar -C "$work" --numeric-owner --one-file-system -cf "$root.part" .
    mv "$root.part" "$root"
)

ensure_base() {
    docker image inspect "$base" >/dev/null 2>&1 && return
    [ -z "${BASE:-}" ] || fail "the daemon has no image $BASE"
    [ -s "$root" ] || make_root
    docker import "$root" "$base" >/dev/null
}

# The legacy builder runs every stage of a file up to the target, wanted or not, and refuses what
# only BuildKit knows: it gets the file without the stage that compiles.
build() {
    sed '/^# build:begin/,/^# build:end/d' images/Dockerfile |
        DOCKER_BUILDKIT=0 docker build --quiet --network none --build-arg BASE="$base" "${labels[@]}" \
            --target "$1" --tag "$1:$tag" --file - . >"$state/build.log" 2>&1 ||
        fail "building $1 failed; see $state/build.log"
    printf 'images: %s:%s  %s\n' "$1" "$tag" \
        "$(docker image inspect --format '{{.Size}} bytes, user {{.Config.User}}' "$1:$tag")"
}

need docker docker.io
docker version >/dev/null 2>&1 || fail "no Docker daemon answers (as root: .ci/start-docker)"
for file in workspace-{agent,proxy}{,.cdx.json}; do
    [ -s "target/dist/$file" ] || fail "target/dist/$file is missing: run make build first"
done
mapfile -t labels < <(images/build-args)
mkdir -p "$state"
[ $# -gt 0 ] || set -- workspace-proxy workspace-base
for image in "$@"; do
    case $image in
    workspace-base) ensure_base ;;
    workspace-proxy) ;;
    *) fail "no such image: $image" ;;
    esac
    build "$image"
done
