//! This host's networks as JSON.

use serde_json::{Map, Value, json};

use crate::convert::rfc3339;
use crate::network_backend::{
    EncryptedPath, LocalEndpoint, LocalNetwork, NetworkScope, NetworkService, Subnet,
};

/// `GET /networks/{id}`; services and encrypted paths only where they are asked for.
pub(crate) fn local(
    network: &LocalNetwork,
    services: &[NetworkService],
    encrypted: Option<&[EncryptedPath]>,
) -> Value {
    let subnets: Vec<Value> = network.subnets.iter().map(subnet).collect();
    let no_subnets = matches!(network.driver.as_str(), "host" | "null") && subnets.is_empty();
    let containers: Map<String, Value> =
        network.containers.iter().map(|e| (e.container.clone(), endpoint(e))).collect();
    let mut map = json!({
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created),
        "Scope": network.scope.as_str(),
        "Driver": network.driver,
        "EnableIPv4": network.enable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": network.ipam_options,
            "Config": if no_subnets { Value::Null } else { subnets.into() },
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": { "Network": network.config_from },
        "ConfigOnly": network.config_only,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    });
    if let Some(peers) = &network.peers {
        map["Peers"] = peers.iter().map(|p| json!({ "Name": p.name, "IP": p.address })).collect();
    }
    if !services.is_empty() {
        map["Services"] = services.iter().map(|s| (s.name.clone(), service(s))).collect();
    }
    if let Some(paths) = encrypted {
        map["Encryption"] = paths.iter().map(|p| (p.address.to_string(), encrypted_path(p))).collect();
    }
    map
}

/// A global network as the store has it, with its containers here and its endpoints elsewhere.
pub(crate) fn global(mut network: Value, here: &[LocalEndpoint], elsewhere: &[LocalEndpoint]) -> Value {
    network["Scope"] = NetworkScope::Global.as_str().into();
    network["Containers"] = here
        .iter()
        .chain(elsewhere)
        .map(|e| (e.container.clone(), endpoint(e)))
        .collect::<Map<_, _>>()
        .into();
    for key in ["Options", "Labels"] {
        if network[key].is_null() {
            network[key] = json!({});
        }
    }
    network
}

/// Times in seconds. Not Docker's: its answer says nothing of this.
fn encrypted_path(path: &EncryptedPath) -> Value {
    json!({
        "Scheme": path.scheme,
        "KeyAge": path.key_age.map(|age| age.as_secs()),
        "LastReceived": path.last_received.map(|ago| ago.as_secs()),
        "Replayed": path.replayed,
        "NotAuthentic": path.not_authentic,
        "Trouble": path.trouble,
    })
}

/// Lists do not show endpoints, peers and services.
pub(crate) fn listed(network: &mut Value) {
    if let Some(containers) = network.get_mut("Containers").filter(|containers| containers.is_object()) {
        *containers = json!({});
    }
}

fn subnet(subnet: &Subnet) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value.into());
        }
    };
    put("Subnet", subnet.subnet.map(|s| s.to_string()));
    put("IPRange", subnet.range.map(|r| r.to_string()));
    put("Gateway", subnet.gateway.map(|g| g.to_string()));
    if !subnet.auxiliary.is_empty() {
        map.insert("AuxiliaryAddresses".to_owned(), json!(subnet.auxiliary));
    }
    map.into()
}

fn endpoint(endpoint: &LocalEndpoint) -> Value {
    json!({
        "Name": endpoint.name,
        "EndpointID": endpoint.endpoint_id,
        "MacAddress": endpoint.mac,
        "IPv4Address": endpoint.ipv4,
        "IPv6Address": endpoint.ipv6,
    })
}

/// Plain containers belong to the service without a name.
fn service(service: &NetworkService) -> Value {
    let tasks: Vec<Value> = service
        .endpoints
        .iter()
        .map(|a| {
            json!({
                "Name": a.name,
                "EndpointID": a.endpoint_id,
                "EndpointIP": a.address,
                "Info": { "Host IP": a.host },
            })
        })
        .collect();
    let port = |(target, published): &(u16, u16)| format!("Target: {target}, Publish: {published}");
    json!({
        // Go's text of an address that is not there.
        "VIP": service.virtual_ip.map_or_else(|| "<nil>".to_owned(), |ip| ip.to_string()),
        "Ports": service.ports.iter().map(port).collect::<Vec<_>>(),
        "LocalLBIndex": 0,
        "Tasks": tasks,
    })
}
