# shellcheck shell=bash
# Workspaces in Docker: a container without a network, and its proxy as a process on this machine.
# Sourced by manage.sh.
#
#   WORKSPACE_BIN_DIR     where the two programs are (default: target/dist of this checkout)
#   WORKSPACE_IMAGE       image of the workspace, which Docker must have (default: workspace-base)
#   WORKSPACE_STATE_DIR   sockets, tokens, logs (default: ~/.local/state/workspaces)
#   WORKSPACE_PROXY_…     settings of the proxy: WORKSPACE_PROXY_ALLOW=packages.example.com,…
# manage.sh defines fail, need and until_true.

programs=${WORKSPACE_BIN_DIR:-$here/../../target/dist}
image=${WORKSPACE_IMAGE:-workspace-base}
state=${WORKSPACE_STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/workspaces}

need docker
for program in workspace-agent workspace-proxy; do
    [ -x "$programs/$program" ] || fail "$programs/$program is missing: make build, or set WORKSPACE_BIN_DIR"
done

must_exist() { [ -d "$state/$1" ] || fail "there is no workspace $1"; }

agent() { # NAME SUBCOMMAND ARGUMENTS…
    local directory=$state/$1 subcommand=$2
    shift 2
    "$programs/workspace-agent" "$subcommand" --connect "unix:$directory/agent/agent.sock" "$@"
}

proxy() { # NAME SUBCOMMAND… without its connection
    local directory=$state/$1
    shift
    WORKSPACE_PROXY_ADMIN_TOKEN_FILE=$directory/admin.token WORKSPACE_PROXY_CONNECT=unix:$directory/admin.sock \
        "$programs/workspace-proxy" "$@"
}

# The proxy's process id, if the process of that id is still this proxy and no later one.
proxy_pid() {
    local pid
    pid=$(cat "$state/$1/proxy.pid" 2>/dev/null) || return 1
    case $(ps -o args= -p "$pid" 2>/dev/null) in
    *"$state/$1/proxy/proxy.sock"*) echo "$pid" ;;
    *) return 1 ;;
    esac
}
proxy_is_gone() { ! proxy_pid "$1" >/dev/null; }

container_state() { docker inspect --format '{{.State.Status}}' "workspace-$1" 2>/dev/null | grep . || echo absent; }

# Served, or ended before it could: no need to wait longer.
proxy_has_settled() { proxy "$1" health --live || proxy_is_gone "$1"; }
agent_has_settled() { agent "$1" health --ready || [ "$(container_state "$1")" != running ]; }

start_proxy() {
    local directory=$state/$1
    # Its own settings come from the environment, but not where it listens.
    env -u WORKSPACE_PROXY_LISTEN -u WORKSPACE_PROXY_ADMIN_LISTEN \
        setsid "$programs/workspace-proxy" serve \
        --listen "unix:$directory/proxy/proxy.sock,mode=0666" \
        --admin-listen "unix:$directory/admin.sock" --admin-token-file "$directory/admin.token" \
        --audit-file "$directory/audit.log" >"$directory/proxy.log" 2>&1 </dev/null &
    echo $! >"$directory/proxy.pid"
}

start_container() {
    # Two mounts, so that no command can replace the proxy's socket: its directory is read-only.
    docker run --detach --pull never --name "workspace-$1" --label "workspace=$1" \
        --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
        --user 1000:1000 --pids-limit 512 --memory 2g \
        --tmpfs /workspace:uid=1000,gid=1000,mode=0750,size=1g,exec --tmpfs /tmp:mode=1777,size=256m,exec \
        --volume "$state/$1/agent:/run/workspace" --volume "$state/$1/proxy:/run/proxy:ro" \
        "$image" serve --forward 127.0.0.1:8080=unix:/run/proxy/proxy.sock --command-env HOME=/workspace >/dev/null
}

start_workspace() {
    local directory=$state/$1
    # 108 bytes is what the kernel takes for the path of a socket.
    [ ${#directory} -le 85 ] || fail "WORKSPACE_STATE_DIR is too long for sockets in it: $state"
    mkdir -p "$state"
    mkdir -m 0700 "$directory" 2>/dev/null || fail "there is a workspace $1 already; stop it first"
    # Both users meet in these two; nobody else comes past the directory around them.
    mkdir -m 0777 "$directory/agent" "$directory/proxy"
    chmod 0777 "$directory/agent" "$directory/proxy"
    (umask 077 && head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' >"$directory/admin.token")
    start_proxy "$1"
    if until_true 30 proxy_has_settled "$1" && proxy "$1" health --live >/dev/null && start_container "$1" &&
        until_true 30 agent_has_settled "$1" && agent "$1" health --ready >/dev/null; then
        echo "$1 is ready"
        return
    fi
    tail -n 5 "$directory/proxy.log" >&2
    [ "$(container_state "$1")" = absent ] || docker logs --tail 5 "workspace-$1" >&2
    stop_workspace "$1" >&2
    fail "$1 did not start"
}

stop_workspace() {
    must_exist "$1"
    local pid
    # More than the agent's drain: what runs gets its time, what is idle goes at once.
    docker stop -t 65 "workspace-$1" >/dev/null 2>&1 || true
    docker rm --force --volumes "workspace-$1" >/dev/null 2>&1 || true
    if pid=$(proxy_pid "$1"); then
        kill "$pid"
        until_true 30 proxy_is_gone "$1" || kill -KILL "$pid"
    fi
    rm -rf -- "${state:?}/$1"
    echo "$1 is stopped"
}

status_workspace() {
    local directory
    if [ $# -eq 1 ]; then
        must_exist "$1"
        echo "container: $(container_state "$1")"
        echo "agent: $(agent "$1" health --ready >/dev/null 2>&1 && echo ready || echo "not ready")"
        echo "proxy: $(proxy "$1" health >/dev/null 2>&1 && echo ready || echo "not ready")"
        return
    fi
    for directory in "$state"/*/; do
        [ -d "$directory" ] || continue
        directory=$(basename "$directory")
        printf '%-40s %s\n' "$directory" "$(container_state "$directory")"
    done
}

show_logs() { # NAME WHAT [-f]
    must_exist "$1"
    local directory=$state/$1 what=$2
    shift 2
    case $what in
    agent) docker logs "$@" "workspace-$(basename "$directory")" 2>&1 ;;
    proxy) tail -n +1 "$@" "$directory/proxy.log" ;;
    audit) tail -n +1 "$@" "$directory/audit.log" ;;
    esac
}

rules() { # NAME get|clear|put…
    must_exist "$1"
    local workspace=$1
    shift
    proxy "$workspace" rules "$@"
}

run_inside() { # NAME COMMAND…
    must_exist "$1"
    local workspace=$1
    shift
    agent "$workspace" exec -- "$@"
}
