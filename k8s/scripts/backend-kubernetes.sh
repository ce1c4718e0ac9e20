# shellcheck shell=bash
# Workspaces in Kubernetes: pods of the PodTemplate, reached from the pod that stands in for the
# orchestrator (components/local). No kubectl exec into a workspace: under gVisor that is past its isolation.
# Sourced by manage.sh.
#
#   WORKSPACE_NAMESPACE      namespace of the workspaces (default: sandboxes)
#   ORCHESTRATOR_NAMESPACE   namespace of the pod "orchestrator" (default: orchestrator)
#   KUBECTL                  program (default: kubectl); its context and KUBECONFIG are kubectl's own
# manage.sh defines fail and need.

program=${KUBECTL:-kubectl}
sandboxes=${WORKSPACE_NAMESPACE:-sandboxes}
orchestrator=${ORCHESTRATOR_NAMESPACE:-orchestrator}

need "$program"
kube() { "$program" --namespace "$sandboxes" "$@"; }
# A client program where the network policy lets it through, with the tokens that are mounted there.
from_orchestrator() { "$program" --namespace "$orchestrator" exec --stdin orchestrator -- "$@"; }

field() { kube get podtemplate workspace --output "jsonpath={.template.$1}"; }

# http://ADDRESS of the pod, which an IPv6 address needs brackets in.
address() {
    local ip
    ip=$(kube get pod "workspace-$1" --output 'jsonpath={.status.podIP}') || exit
    case $ip in
    '') fail "workspace $1 has no address yet" ;;
    *:*) echo "http://[$ip]" ;;
    *) echo "http://$ip" ;;
    esac
}

start_workspace() {
    local labels annotations spec
    spec=$(field spec) || fail "there is no PodTemplate workspace in $sandboxes: apply an overlay first"
    labels=$(field metadata.labels)
    annotations=$(field metadata.annotations)
    printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"workspace-%s","labels":%s,"annotations":%s},"spec":%s}' \
        "$1" "${labels:-{\}}" "${annotations:-{\}}" "$spec" | kube create --filename - >/dev/null ||
        fail "$1 was not created"
    if kube wait --for=condition=Ready --timeout=120s "pod/workspace-$1" >/dev/null; then
        echo "$1 is ready"
        return
    fi
    kube get pod "workspace-$1" --output wide >&2 || true
    kube logs "workspace-$1" --container proxy --tail 5 >&2 || true
    kube logs "workspace-$1" --container workspace --tail 5 >&2 || true
    stop_workspace "$1" >&2
    fail "$1 did not start"
}

stop_workspace() {
    kube delete pod "workspace-$1" --wait >/dev/null
    echo "$1 is stopped"
}

status_workspace() {
    local url
    if [ $# -eq 0 ]; then
        kube get pods --selector app.kubernetes.io/name=workspace --output wide
        return
    fi
    url=$(address "$1")
    echo "pod: $(kube get pod "workspace-$1" --output 'jsonpath={.status.phase}')"
    echo "agent: $(from_orchestrator workspace-agent health --ready --connect "$url:8080" >/dev/null 2>&1 </dev/null &&
        echo ready || echo "not ready")"
    echo "proxy: $(from_orchestrator workspace-proxy health --connect "$url:9090" >/dev/null 2>&1 </dev/null &&
        echo ready || echo "not ready")"
}

show_logs() { # NAME WHAT [-f]
    local workspace=$1 container=proxy
    # The proxy's log and its audit lines are one stream here.
    [ "$2" != agent ] || container=workspace
    shift 2
    kube logs "workspace-$workspace" --container "$container" "$@"
}

rules() { # NAME get|clear|put…
    local url
    url=$(address "$1")
    shift
    from_orchestrator workspace-proxy rules "$@" --connect "$url:9090"
}

run_inside() { # NAME COMMAND…
    local url
    url=$(address "$1")
    shift
    from_orchestrator workspace-agent exec --connect "$url:8080" -- "$@"
}
