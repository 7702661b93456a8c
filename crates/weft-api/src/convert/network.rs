//! Networks of the swarm.

use bollard_stubs::models::NetworkCreateRequest;
use serde_json::{Map, Value, json};
use weft_wire::swarmkit::ipam_config::AddressFamily;
use weft_wire::swarmkit::{Annotations, Driver, IpamConfig, IpamOptions, Network, NetworkSpec};

use super::{annotations, object_head, put_filled, put_text, put_true, rfc3339_proto};

/// `GET /networks/{id}` of a network that is not instantiated on this node.
pub(crate) fn swarm_network(network: &Network) -> Value {
    let spec = network.spec.clone().unwrap_or_default();
    let ipam = network.ipam.clone().unwrap_or_default();
    let driver = network.driver_state.clone().or(spec.driver_config).unwrap_or_default();
    let named = spec.annotations.unwrap_or_default();
    let configs: Vec<Value> = ipam.configs.iter().map(config).collect();
    json!({
        "Name": named.name,
        "Id": network.id,
        "Created": rfc3339_proto(network.meta.as_ref().and_then(|m| m.created_at.as_ref())),
        "Scope": "swarm",
        "Driver": driver.name,
        "EnableIPv4": true,
        "EnableIPv6": spec.ipv6_enabled,
        "IPAM": {
            "Driver": ipam.driver.map_or_else(|| "default".to_owned(), |d| d.name),
            "Options": Value::Null,
            "Config": configs,
        },
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": Value::Null,
        "Options": if driver.options.is_empty() { Value::Null } else { json!(driver.options) },
        "Labels": if named.labels.is_empty() { Value::Null } else { json!(named.labels) },
    })
}

fn config(config: &IpamConfig) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "Subnet", &config.subnet);
    put_text(&mut map, "IPRange", &config.range);
    put_text(&mut map, "Gateway", &config.gateway);
    put_filled(&mut map, "AuxiliaryAddresses", json!(config.reserved));
    map.into()
}

/// Networks that every node has by itself stand in the swarm's store only for services that use them.
pub(crate) fn is_predefined(network: &Network) -> bool {
    let annotations = network.spec.as_ref().and_then(|spec| spec.annotations.as_ref());
    annotations.is_some_and(|a| a.labels.contains_key("com.docker.swarm.predefined"))
}

/// A network inside a task's attachment: the object as SwarmKit has it, in Docker's field names.
pub(super) fn attached_network(network: &Network) -> Value {
    let mut map = object_head(&network.id, network.meta.as_ref());
    let spec = network.spec.clone().unwrap_or_default();
    let mut spec_map = annotations(spec.annotations.as_ref());
    let driver = spec.driver_config.unwrap_or_default();
    spec_map.insert("DriverConfiguration".to_owned(), driver_json(&driver));
    put_true(&mut spec_map, "IPv6Enabled", spec.ipv6_enabled);
    put_true(&mut spec_map, "Internal", spec.internal);
    put_true(&mut spec_map, "Attachable", spec.attachable);
    put_true(&mut spec_map, "Ingress", spec.ingress);
    spec_map.insert("IPAMOptions".to_owned(), ipam_options(spec.ipam.as_ref()));
    spec_map.insert("Scope".to_owned(), "swarm".into());
    map.insert("Spec".to_owned(), spec_map.into());
    map.insert("DriverState".to_owned(), driver_json(&network.driver_state.clone().unwrap_or_default()));
    map.insert("IPAMOptions".to_owned(), ipam_options(network.ipam.as_ref()));
    map.into()
}

pub(super) fn driver_json(driver: &Driver) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "Name", &driver.name);
    put_filled(&mut map, "Options", json!(driver.options));
    map.into()
}

fn ipam_options(options: Option<&IpamOptions>) -> Value {
    let options = options.cloned().unwrap_or_default();
    let mut map = Map::new();
    map.insert("Driver".to_owned(), driver_json(&options.driver.unwrap_or_default()));
    put_filled(&mut map, "Configs", options.configs.iter().map(config).collect::<Vec<_>>().into());
    map.into()
}

/// A create request as SwarmKit's spec. Values are as the user gave them; the manager checks them.
pub(crate) fn network_spec(request: NetworkCreateRequest) -> NetworkSpec {
    let ipam = request.ipam.unwrap_or_default();
    NetworkSpec {
        annotations: Some(Annotations {
            name: request.name,
            labels: super::labels(request.labels),
            indices: Vec::new(),
        }),
        driver_config: Some(Driver {
            name: request.driver.unwrap_or_default(),
            options: super::labels(request.options),
        }),
        ipv6_enabled: request.enable_ipv6.unwrap_or_default(),
        internal: request.internal.unwrap_or_default(),
        ipam: Some(IpamOptions {
            driver: Some(Driver {
                name: ipam.driver.filter(|d| !d.is_empty()).unwrap_or_else(|| "default".to_owned()),
                options: super::labels(ipam.options),
            }),
            configs: ipam.config.unwrap_or_default().into_iter().map(ipam_config).collect(),
        }),
        attachable: request.attachable.unwrap_or_default(),
        ingress: request.ingress.unwrap_or_default(),
        config_from: None,
    }
}

fn ipam_config(config: bollard_stubs::models::IpamConfig) -> IpamConfig {
    let subnet = config.subnet.unwrap_or_default();
    let family = if subnet.contains(':') { AddressFamily::Ipv6 } else { AddressFamily::Ipv4 };
    IpamConfig {
        family: family.into(),
        subnet,
        range: config.ip_range.unwrap_or_default(),
        gateway: config.gateway.unwrap_or_default(),
        reserved: super::labels(config.auxiliary_addresses),
    }
}
