#!/usr/bin/env bash
# A cluster on this machine with everything that a workspace needs: k3s, the images, the tokens, an overlay.
# Linux, as root. Running it again repairs and updates.
#
#   setup-local-k8s.sh              runc with our seccomp profile (overlays/local)
#   setup-local-k8s.sh --gvisor     gVisor (overlays/local-gvisor)
#
# K3S_CHANNEL=v1.36         which k3s, where none is installed
# GVISOR_RELEASE=20260817   which gVisor; GVISOR_DIR=PATH takes one that was downloaded before
# Before it: make image. After it: CONTAINER_BACKEND=kubernetes k8s/scripts/manage.sh start NAME
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
k8s=$(dirname "$here")
destdir=${DESTDIR:-}
containerd=$destdir/var/lib/rancher/k3s/agent/etc/containerd

fail() {
    echo "setup-local-k8s.sh: $*" >&2
    exit 1
}
step() { echo "== $*"; }
need() { command -v "$1" >/dev/null || fail "$1 is not installed"; }
kubectl() { k3s kubectl "$@"; }

case "${1:-} $#" in
" 0") overlay=local ;;
"--gvisor 1") overlay=local-gvisor ;;
*) fail "takes --gvisor or nothing" ;;
esac
[ "$(uname -s)" = Linux ] || fail "needs Linux; elsewhere run it in a virtual machine"
[ "$(id -u)" = 0 ] || fail "needs root"

install_k3s() {
    command -v k3s >/dev/null && return
    need curl
    local installer
    installer=$(mktemp)
    curl --fail --silent --show-error --location --output "$installer" https://get.k3s.io
    INSTALL_K3S_CHANNEL=${K3S_CHANNEL:-v1.36} sh "$installer" --write-kubeconfig-mode 600 --disable traefik
    rm -f "$installer"
}

# The directory with runsc and its shim: given, or downloaded. install.sh checks what is in it.
gvisor_directory() {
    if [ -n "${GVISOR_DIR:-}" ]; then
        echo "$GVISOR_DIR"
        return
    fi
    need curl
    local directory url file
    directory=$(mktemp -d)
    url=https://storage.googleapis.com/gvisor/releases/release/${GVISOR_RELEASE:-20260817}/$(uname -m)
    for file in runsc containerd-shim-runsc-v1; do
        curl --fail --silent --show-error --location --output "$directory/$file" "$url/$file"
        curl --fail --silent --show-error --location --output "$directory/$file.sha512" "$url/$file.sha512"
    done
    echo "$directory"
}

# The stanza of the node configuration, behind k3s' own: one source for both.
containerd_template() {
    # shellcheck disable=SC2016  # a template of k3s, not of the shell
    printf '{{ template "base" . }}\n\n'
    sed -n '/config: |/,$ s/^      //p' "$k8s/cluster/node/10-gvisor.nodeconfig.yaml" | sed '/^  *config: |$/d'
}

install_gvisor() {
    local directory
    directory=$(gvisor_directory)
    "$k8s/cluster/node/install.sh" "$directory"
    mkdir -p "$containerd"
    containerd_template >"$containerd/config-v3.toml.tmpl.new"
    if ! cmp -s "$containerd/config-v3.toml.tmpl.new" "$containerd/config-v3.toml.tmpl"; then
        mv "$containerd/config-v3.toml.tmpl.new" "$containerd/config-v3.toml.tmpl"
        systemctl restart k3s
    fi
    rm -f "$containerd/config-v3.toml.tmpl.new"
    wait_for_node
    kubectl label node --all --overwrite sandbox-runtime=gvisor >/dev/null
}

wait_for_node() {
    local tries=0
    until kubectl wait --for=condition=Ready node --all --timeout=120s >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 60 ] || fail "the node does not become ready; see journalctl -u k3s"
        sleep 1
    done
}

load_images() {
    need docker
    docker image inspect workspace-base >/dev/null 2>&1 || fail "Docker has no image workspace-base: make image first"
    docker tag workspace-base workspace-base:dev
    docker save workspace-base:dev | k3s ctr images import - >/dev/null
}

# One token for each plane, the same in both namespaces; kept where they exist.
make_tokens() {
    local name token namespace
    for name in workspace-admin workspace-agent; do
        kubectl -n sandboxes get secret "$name" >/dev/null 2>&1 &&
            kubectl -n orchestrator get secret "$name" >/dev/null 2>&1 && continue
        token=$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n')
        for namespace in sandboxes orchestrator; do
            printf '%s' "$token" | kubectl -n "$namespace" create secret generic "$name" \
                --from-file=token=/dev/stdin --dry-run=client -o yaml | kubectl apply -f - >/dev/null
        done
    done
}

step "k3s"
install_k3s
wait_for_node
step "node: $overlay"
if [ "$overlay" = local-gvisor ]; then install_gvisor; else "$k8s/cluster/node/install.sh" --seccomp-only; fi
step "images"
load_images
step "namespaces and tokens"
for namespace in sandboxes orchestrator; do
    kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
done
make_tokens
step "manifests"
kubectl apply -k "$k8s/cluster/admission/base"
kubectl apply -k "$k8s/overlays/$overlay"
kubectl -n orchestrator wait --for=condition=Ready --timeout=120s pod/orchestrator
echo "ready: CONTAINER_BACKEND=kubernetes KUBECONFIG=/etc/rancher/k3s/k3s.yaml k8s/scripts/manage.sh start NAME"
