"""The checks of k8s/README.md's table, by their numbers there. Number 23, that every custom resource is of a
version that its definition serves, is test_crds.py.
"""

import hardening_cluster as cluster
import hardening_pod as pod
import hardening_volumes as volumes

CHECKS = {
    1: pod.proxy_is_a_native_sidecar,
    2: pod.no_api_tokens,
    3: pod.nothing_of_the_node,
    4: pod.pods_are_not_root,
    5: pod.containers_are_confined,
    6: pod.users_differ,
    7: volumes.tokens_are_the_proxys,
    8: volumes.no_credentials_in_environments,
    9: volumes.sockets_are_safe,
    10: volumes.volumes_have_limits,
    11: pod.isolation_is_required,
    12: pod.probes_start_no_process,
    13: pod.stopping_fits_the_notice,
    14: volumes.gvisor_knows_the_volumes,
    15: volumes.webhook_skips_the_workspace,
    16: cluster.network_is_closed,
    17: cluster.namespace_is_restricted,
    18: cluster.roles_are_small,
    19: cluster.images_are_pinned,
    20: cluster.sandboxes_are_the_template,
    21: cluster.containerd_knows_runsc,
    22: cluster.metadata_is_out_of_reach,
}
