#!/usr/bin/env bash
# Makes a node image ready for workspaces: gVisor, containerd's knowledge of it, our seccomp profile. For the
# build of an AL2023 image (Packer, EC2 Image Builder); setup-local-k8s.sh uses parts of it.
#
#   install.sh [--seccomp-only] DIRECTORY
#
# DIRECTORY holds runsc, containerd-shim-runsc-v1 and their .sha512 files of one gVisor release for this
# architecture, 20240807 or newer (older ones do not start on Linux 6.18). They are checked, not trusted.
# With --seccomp-only nothing of gVisor is installed and no DIRECTORY is needed.
# DESTDIR=PATH installs below PATH.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${DESTDIR:-}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

install_seccomp() {
    install -D -m 0644 "$here/workspace-netns.seccomp.json" \
        "$root/var/lib/kubelet/seccomp/profiles/workspace-netns.json"
}

install_programs() {
    local program
    for program in runsc containerd-shim-runsc-v1; do
        if [ ! -f "$1/$program" ] || [ ! -f "$1/$program.sha512" ]; then
            fail "$1 lacks $program or $program.sha512"
        fi
        (cd "$1" && sha512sum --check --status "$program.sha512") ||
            fail "$1/$program is not what its checksum says: get it again"
    done
    # After both checks: no half of a release gets installed.
    for program in runsc containerd-shim-runsc-v1; do
        install -D -m 0755 "$1/$program" "$root/usr/local/bin/$program"
    done
}

install_configuration() {
    install -D -m 0644 "$here/runsc.toml" "$root/etc/containerd/runsc.toml"
    install -D -m 0644 "$here/10-gvisor.nodeconfig.yaml" "$root/etc/eks/nodeadm.d/10-gvisor.yaml"
}

case "${1:-} $#" in
"--seccomp-only 1") install_seccomp ;;
" 0" | -*) fail "give the directory with runsc, or --seccomp-only" ;;
*" 1")
    install_programs "$1"
    install_configuration
    install_seccomp
    ;;
*) fail "takes one directory" ;;
esac
