//! Envoy, with one cluster that is the origin: it ends CONNECT itself, takes absolute-form, and adds
//! the header of a route.

use std::{net::SocketAddr, thread};

use anyhow::Result;
use serde_json::{Value, json};
use workspace_tests::process::free_address;

use super::super::contender::{CREDENTIAL, Running, Way};

const TYPES: &str = "type.googleapis.com/envoy.extensions";
const UNLIMITED: u32 = 1_000_000;

pub(super) fn start(way: &Way, origin: SocketAddr) -> Result<Result<Running, String>> {
    let address = free_address()?;
    let text = configuration(way, address, origin).to_string();
    // As the others: one thread for each processor.
    let threads = thread::available_parallelism()?.to_string();
    let peer = super::start(address, "envoy", &text, |file| {
        let fixed = ["--disable-hot-restart", "--log-level", "critical", "--concurrency"];
        let last = [threads, "--config-path".into(), file];
        fixed.into_iter().map(str::to_owned).chain(last).collect()
    });
    Ok(peer?.map(|peer| match way {
        Way::Tunnel | Way::Forward => Running::forward(address, peer, way, origin),
        Way::Route | Way::SecureRoute(_) => Running::plain(address, Some(peer)),
    }))
}

fn configuration(way: &Way, address: SocketAddr, origin: SocketAddr) -> Value {
    let thresholds = json!({
        "max_connections": UNLIMITED, "max_pending_requests": UNLIMITED, "max_requests": UNLIMITED,
    });
    let endpoint = json!({ "endpoint": { "address": socket(origin) } });
    let cluster = json!({
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [thresholds] },
        "load_assignment": {
            "cluster_name": "origin", "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
    });
    let filter = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": connection_manager(way),
    });
    let listener = json!({
        "name": "bench", "address": socket(address), "filter_chains": [{ "filters": [filter] }],
    });
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } })
}

fn connection_manager(way: &Way) -> Value {
    let mut route =
        json!({ "match": { "prefix": "/" }, "route": { "cluster": "origin", "timeout": "0s" } });
    let mut manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
        }],
    });
    match way {
        Way::Tunnel => {
            route["match"] = json!({ "connect_matcher": {} });
            route["route"]["upgrade_configs"] =
                json!([{ "upgrade_type": "CONNECT", "connect_config": {} }]);
            manager["upgrade_configs"] = json!([{ "upgrade_type": "CONNECT" }]);
        }
        Way::Forward => {}
        Way::Route | Way::SecureRoute(_) => {
            let header = json!({ "key": "authorization", "value": CREDENTIAL });
            route["request_headers_to_add"] = json!([{ "header": header }]);
        }
    }
    let host = json!({ "name": "all", "domains": ["*"], "routes": [route] });
    manager["route_config"] = json!({ "virtual_hosts": [host] });
    manager
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}
