#!/usr/bin/env bash
# One workspace at a time, by hand: with Docker on this machine, or in a Kubernetes cluster.
#
#   manage.sh start NAME                       makes it and waits until it takes work
#   manage.sh stop NAME                        ends it; nothing of it is left
#   manage.sh status [NAME]                    what there is, or how one of them is
#   manage.sh logs NAME [agent|proxy|audit] [-f]
#   manage.sh rules NAME get|clear|put FILE    credentials of the proxy; - reads standard input
#   manage.sh exec NAME [--] COMMAND…          its output and exit code become ours
#
# CONTAINER_BACKEND=docker (the default) or kubernetes. backend-docker.sh and backend-kubernetes.sh say
# which variables each takes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "manage.sh: $*" >&2
    exit 2
}
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
need() { command -v "$1" >/dev/null || fail "$1 is not installed"; }

# until_true SECONDS COMMAND…: repeats it; false when the time is over.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# Names become paths, container names and pod names: only what is good for all three.
check_name() {
    [[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
        fail "'$1' is no name: 1 to 40 of a-z, 0-9 and -, a letter or digit at both ends"
}

backend=${CONTAINER_BACKEND:-docker}
case $backend in
docker | kubernetes) ;;
*) fail "CONTAINER_BACKEND is '$backend'; it must be docker or kubernetes" ;;
esac
# shellcheck source=k8s/scripts/backend-docker.sh
. "$here/backend-$backend.sh"

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
help | -h | --help)
    usage
    exit 0
    ;;
status) [ $# -le 1 ] || fail "status takes one name at most" ;;
start | stop) [ $# -eq 1 ] || fail "$command takes one name" ;;
logs | rules | exec) [ $# -ge 1 ] || fail "$command needs the name of a workspace" ;;
*) fail "'$command' is no command; manage.sh help lists them" ;;
esac
name=${1:-}
[ $# -eq 0 ] || { check_name "$name" && shift; }

case $command in
logs)
    what=agent
    case ${1:-} in
    agent | proxy | audit)
        what=$1
        shift
        ;;
    esac
    case $* in
    '' | -f) show_logs "$name" "$what" "$@" ;;
    *) fail "logs takes agent, proxy or audit, and -f" ;;
    esac
    ;;
rules)
    case "${1:-} $#" in
    "get 1" | "clear 1") rules "$name" "$1" </dev/null ;;
    "put 2")
        if [ "$2" = - ]; then
            rules "$name" put -
        else
            [ -r "$2" ] || fail "$2 cannot be read"
            rules "$name" put - <"$2"
        fi
        ;;
    *) fail "rules takes get, clear, or put FILE" ;;
    esac
    ;;
exec)
    [ "${1:-}" != -- ] || shift
    [ $# -gt 0 ] || fail "exec needs a command"
    run_inside "$name" "$@"
    ;;
*) "${command}_workspace" ${name:+"$name"} ;;
esac
