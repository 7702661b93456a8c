//! Making and removing networks.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ipnet::IpNet;
use weft_plan::{Observed, Owner};
use weft_types::NetworkId;

use crate::config::ControllerConfig;
use crate::controller::{Controller, OnFailure, Touched, config_only};
use crate::error::NetworkError;
use crate::ipam::{check_config, default_pools, free_subnet, overlaps_any, resolve_config};
use crate::network::{BridgeSettings, DEFAULT_BRIDGE, Driver, GATEWAY_BRIDGE, Network, Pool};
use crate::options::{BRIDGE_NAME, DEFAULT, HOST_BINDING, INTER_CONTAINER, MASQUERADE, MTU, bridge_settings};
use crate::spec::{IpamConfig, NetworkSpec};
use crate::state::State;
use crate::sub_interface::SubInterfaceSettings;
use crate::view::NetworkEvent;

/// Names that mean something to `docker run --network`.
const PREDEFINED: [&str; 4] = [DEFAULT_BRIDGE, "host", "none", "default"];

/// Most subnets that a report names: a host with the whole routing table of the internet stays able to report.
const MAX_HOST_SUBNETS: usize = 256;

impl Controller {
    /// Makes a network of this host.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Network, NetworkError> {
        check_spec(&spec)?;
        let _turn = self.turn.lock().await;
        let host = self.dataplane.host().observe(&weft_plan::NamespaceState::empty()).await?;
        let reserved = self.host_routes().await;
        let (replaced, network) = self
            .change(|state| {
                if spec.config_only {
                    return Ok(((None, config_only::add(state, spec)?), Touched::default()));
                }
                let spec = config_only::filled(state, spec)?;
                let replaced = give_way(state, &spec.name);
                let network = add_network(state, &self.config, spec, &reserved, Some(&host))?;
                Ok(((replaced, network), Touched { host: true, ..Touched::default() }))
            })
            .await?;
        if let Some(replaced) = replaced {
            tracing::info!(network = %replaced.id, name = replaced.name, "network replaced by the user's");
            self.tell(NetworkEvent::Destroyed(replaced.subject()));
        }
        tracing::info!(network = %network.id, name = network.name, driver = network.driver_name(), "network made");
        self.tell(NetworkEvent::Created(network.subject()));
        Ok(network)
    }

    /// Removes a network without endpoints.
    pub async fn remove_network(&self, term: &str) -> Result<Network, NetworkError> {
        let _turn = self.turn.lock().await;
        let network = self
            .note_change(|state| {
                let network = state.find(term)?.clone();
                if network.is_predefined() {
                    return Err(NetworkError::Predefined(network.name));
                }
                let users: Vec<String> = state
                    .endpoints_on(&network.id)
                    .map(|(sandbox, endpoint)| {
                        let view = sandbox.view(endpoint, &network);
                        format!("name:{:?} id:{:?}", view.name, &view.id.as_str()[..12])
                    })
                    .collect();
                if !users.is_empty() {
                    return Err(NetworkError::InUse { network: network.name, endpoints: users.join(", ") });
                }
                config_only::refuse_used(state, &network)?;
                state.networks_mut().remove(&network.id);
                Ok((network, Touched { host: true, ..Touched::default() }))
            })
            .await?;
        tracing::info!(network = %network.id, name = network.name, "network removed");
        self.tell(NetworkEvent::Destroyed(network.subject()));
        Ok(network)
    }

    /// `bridge`, `host` and `none`. The default bridge follows the daemon's settings as far as nobody is on it.
    pub(super) async fn make_default_networks(&self) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().await;
        let reserved = self.host_routes().await;
        // The first start says what is missing on this machine; a later one must not leave running containers alone.
        let on_failure = if self.state.load().networks().next().is_none() {
            OnFailure::TakeBack
        } else {
            OnFailure::Stand
        };
        self.change_with(on_failure, |state| {
            for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
                if !state.networks().any(|network| network.name == name) {
                    let network = plain(name, driver);
                    state.networks_mut().insert(network.id.clone(), network);
                }
            }
            default_bridge(state, &self.config, &reserved)?;
            Ok(((), Touched { host: true, ..Touched::default() }))
        })
        .await
    }

    /// Subnets that this host is in or routes to, with the bridges of its own networks but without what only concerns
    /// one link. None lies in another; the largest first where there are more than fit a report.
    pub async fn host_subnets(&self) -> Vec<IpNet> {
        let Ok(observed) = self.dataplane.host().observe(&weft_plan::NamespaceState::empty()).await else {
            return Vec::new();
        };
        let foreign = observed.routes.iter().filter(|(_, owner)| **owner == Owner::Foreign);
        reportable(foreign.map(|(route, _)| route.destination))
    }

    /// Subnets that this host can reach already, and that no new network may hide.
    pub(super) async fn host_routes(&self) -> Vec<IpNet> {
        let Ok(observed) = self.dataplane.host().observe(&weft_plan::NamespaceState::empty()).await else {
            return Vec::new();
        };
        let ours: Vec<_> =
            self.state.load().networks().filter_map(|n| n.bridge()).map(|b| b.bridge.clone()).collect();
        let routes = observed.routes.iter().filter(|(route, owner)| {
            **owner == Owner::Foreign && route.link().is_none_or(|link| !ours.contains(link))
        });
        routes.map(|(route, _)| route.destination).filter(|net| net.prefix_len() > 0).collect()
    }
}

fn reportable(destinations: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let is_local = |net: &IpNet| match net {
        IpNet::V4(net) => net.addr().is_link_local() || net.addr().is_multicast() || net.addr().is_loopback(),
        IpNet::V6(net) => {
            net.addr().is_unicast_link_local() || net.addr().is_multicast() || net.addr().is_loopback()
        }
    };
    // Tunnels replace the default route by its two halves.
    let is_default = |net: &IpNet| net.prefix_len() <= 1;
    let wanted: Vec<IpNet> = destinations.filter(|net| !is_default(net) && !is_local(net)).collect();
    let mut subnets = IpNet::aggregate(&wanted);
    subnets.sort_by_key(|net| (net.prefix_len(), *net));
    subnets.truncate(MAX_HOST_SUBNETS);
    subnets
}

fn check_spec(spec: &NetworkSpec) -> Result<(), NetworkError> {
    if spec.name.trim().is_empty() {
        return Err(NetworkError::EmptyName);
    }
    if PREDEFINED.contains(&spec.name.as_str()) {
        return Err(NetworkError::PredefinedName(spec.name.clone()));
    }
    if spec.scope == "swarm" {
        return Err(NetworkError::SwarmInactive);
    }
    match spec.driver.as_str() {
        "" | "bridge" => {}
        "host" | "null" => return Err(NetworkError::OnlyOne(spec.driver.clone())),
        "macvlan" | "ipvlan" => {}
        "overlay" => return Err(NetworkError::UnsupportedDriver(spec.driver.clone())),
        other => return Err(NetworkError::UnknownDriver(other.to_owned())),
    }
    let given: Vec<IpamConfig> =
        spec.ipam.iter().filter(|config| **config != IpamConfig::default()).cloned().collect();
    check_config(&given, spec.enable_ipv6)?;
    config_only::check(spec)
}

/// Adds a network to the state; interfaces that share one need to know what the host has.
pub(super) fn add_network(
    state: &mut State,
    config: &ControllerConfig,
    spec: NetworkSpec,
    reserved: &[IpNet],
    host: Option<&Observed>,
) -> Result<Network, NetworkError> {
    if state.networks().any(|network| network.name == spec.name) {
        return Err(NetworkError::NameTaken(spec.name));
    }
    let id = NetworkId::random_local(&mut rand::rng());
    let driver = match (spec.driver.as_str(), host) {
        (name @ ("macvlan" | "ipvlan"), Some(host)) => Driver::SubInterface(SubInterfaceSettings::read(
            &id,
            name,
            &spec.options,
            host,
            state.networks(),
        )?),
        _ => Driver::Bridge(new_bridge(state, &id, &spec)?),
    };
    let pools = pools(state, config, &spec, reserved)?;
    let network = Network {
        id: id.clone(),
        name: spec.name,
        created: SystemTime::now(),
        driver,
        enable_ipv4: spec.enable_ipv4,
        enable_ipv6: spec.enable_ipv6,
        internal: spec.internal,
        attachable: spec.attachable,
        pools,
        ipam_options: spec.ipam_options,
        options: spec.options,
        labels: spec.labels,
        config_from: spec.config_from,
    };
    state.networks_mut().insert(id, network.clone());
    Ok(network)
}

/// A bridge is one network's.
fn new_bridge(state: &State, id: &NetworkId, spec: &NetworkSpec) -> Result<BridgeSettings, NetworkError> {
    let settings = bridge_settings(id, &spec.options)?;
    let same = |n: &&Network| n.bridge().is_some_and(|other| other.bridge == settings.bridge);
    match state.networks().find(same) {
        None => Ok(settings),
        Some(other) => Err(NetworkError::SameBridge {
            id: id.to_string(),
            other: other.id.to_string(),
            bridge: settings.bridge.to_string(),
        }),
    }
}

/// The subnets of a new network: the named ones, and chosen ones for families without.
fn pools(
    state: &State,
    config: &ControllerConfig,
    spec: &NetworkSpec,
    reserved: &[IpNet],
) -> Result<Vec<Pool>, NetworkError> {
    let used = state.subnets();
    let mut pools: Vec<Pool> = Vec::new();
    for given in spec.ipam.iter().filter_map(resolve_config) {
        if overlaps_any(&given.subnet, used.iter().chain(pools.iter().map(|pool| &pool.subnet))) {
            return Err(NetworkError::PoolOverlaps);
        }
        if pools.iter().any(|pool| pool.subnet.addr().is_ipv4() == given.subnet.addr().is_ipv4()) {
            return Err(NetworkError::MultipleSubnets);
        }
        pools.push(given);
    }
    for (ipv6, wanted) in [(false, spec.enable_ipv4), (true, spec.enable_ipv6)] {
        if wanted && !pools.iter().any(|pool| pool.subnet.addr().is_ipv6() == ipv6) {
            pools.push(chosen_pool(state, config, ipv6, &used, reserved)?);
        }
    }
    if !spec.enable_ipv4 {
        pools.retain(|pool| pool.subnet.addr().is_ipv6());
    }
    Ok(pools)
}

fn chosen_pool(
    state: &State,
    config: &ControllerConfig,
    ipv6: bool,
    used: &[IpNet],
    reserved: &[IpNet],
) -> Result<Pool, NetworkError> {
    let defaults = default_pools(state.lasting.unique_local);
    let own = &config.default_address_pools;
    let has_family = own.iter().any(|pool| pool.base.addr().is_ipv6() == ipv6);
    let pools = if has_family { own } else { &defaults };
    let taken: Vec<IpNet> = used.iter().chain(reserved).copied().collect();
    let subnet = free_subnet(pools, ipv6, &taken).map_err(|total| NetworkError::PoolsExhausted {
        family: if ipv6 { "IPv6" } else { "IPv4" },
        used: used.iter().filter(|net| net.addr().is_ipv6() == ipv6).count(),
        total,
    })?;
    let gateway = subnet.hosts().find(|ip| *ip != subnet.network()).unwrap_or_else(|| subnet.addr());
    Ok(Pool {
        subnet,
        range: None,
        gateway,
        user_subnet: false,
        show_gateway: true,
        auxiliary: BTreeMap::new(),
    })
}

fn plain(name: &str, driver: Driver) -> Network {
    Network {
        id: NetworkId::random_local(&mut rand::rng()),
        name: name.to_owned(),
        created: SystemTime::now(),
        driver,
        enable_ipv4: true,
        enable_ipv6: false,
        internal: false,
        attachable: false,
        pools: Vec::new(),
        ipam_options: None,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        config_from: None,
    }
}

/// Makes or brings up to date the network of containers that name none.
fn default_bridge(
    state: &mut State,
    config: &ControllerConfig,
    reserved: &[IpNet],
) -> Result<(), NetworkError> {
    let flag = |value: bool| value.to_string();
    let options: BTreeMap<String, String> = [
        (DEFAULT, flag(true)),
        (INTER_CONTAINER, flag(config.inter_container)),
        (MASQUERADE, flag(true)),
        (HOST_BINDING, "0.0.0.0".to_owned()),
        (BRIDGE_NAME, "docker0".to_owned()),
        (MTU, config.mtu.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let old = state.networks().find(|network| network.is_default_bridge()).cloned();
    let busy = old.as_ref().is_some_and(|network| state.endpoints_on(&network.id).next().is_some());
    if let Some(old) = old {
        let wanted =
            config.bip.is_none_or(|bip| old.pools.first().is_some_and(|p| p.gateway_address() == bip));
        if busy || (wanted && old.options == options) {
            return Ok(());
        }
        state.networks_mut().remove(&old.id);
        return add_default_bridge(state, config, reserved, options, Some(old));
    }
    add_default_bridge(state, config, reserved, options, None)
}

fn add_default_bridge(
    state: &mut State,
    config: &ControllerConfig,
    reserved: &[IpNet],
    options: BTreeMap<String, String>,
    old: Option<Network>,
) -> Result<(), NetworkError> {
    let mut spec = NetworkSpec { options, ..NetworkSpec::bridge(DEFAULT_BRIDGE) };
    if let Some(bip) = config.bip {
        spec.ipam = vec![IpamConfig {
            subnet: Some(bip.subnet().to_string()),
            gateway: Some(bip.ip().to_string()),
            ip_range: config.fixed_cidr.map(|net| net.to_string()),
            auxiliary: BTreeMap::new(),
        }];
        check_config(&spec.ipam, false)?;
    }
    let network = add_network(state, config, spec, reserved, None)?;
    let id = old.as_ref().map_or(network.id.clone(), |old| old.id.clone());
    state.networks_mut().remove(&network.id);
    let mut network = Network { id: id.clone(), ipam_options: None, ..network };
    if let (Some(old), None) = (old, config.bip) {
        network.pools = old.pools;
    }
    // Nobody may ask for an address on the default bridge, also when `--bip` named its subnet.
    network.pools.iter_mut().for_each(|pool| pool.user_subnet = false);
    state.networks_mut().insert(id, network);
    Ok(())
}

/// Options of the gateway bridge that is made where the user made none.
fn gateway_options() -> BTreeMap<String, String> {
    [(BRIDGE_NAME, GATEWAY_BRIDGE), (INTER_CONTAINER, "false"), (MASQUERADE, "true")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The gateway bridge that an earlier swarm left behind goes when the user makes one with settings of his own. One
/// that he made himself stays, as do one with containers and that of a swarm.
fn give_way(state: &mut State, name: &str) -> Option<Network> {
    if name != GATEWAY_BRIDGE || state.swarm().is_some() {
        return None;
    }
    let is_left_behind = |network: &&Network| {
        network.name == GATEWAY_BRIDGE
            && network.options == gateway_options()
            && network.labels.is_empty()
            && network.pools.iter().all(|pool| !pool.user_subnet)
            && state.endpoints_on(&network.id).next().is_none()
    };
    let id = state.networks().find(is_left_behind)?.id.clone();
    state.networks_mut().remove(&id)
}

/// The network through which containers on overlays reach the outside; one of that name that the user made is taken.
pub(super) fn gateway_bridge(
    state: &mut State,
    config: &ControllerConfig,
    reserved: &[IpNet],
) -> Result<NetworkId, NetworkError> {
    if let Some(network) = state.networks().find(|n| n.name == GATEWAY_BRIDGE && n.bridge().is_some()) {
        return Ok(network.id.clone());
    }
    let spec = NetworkSpec { options: gateway_options(), ..NetworkSpec::bridge(GATEWAY_BRIDGE) };
    add_network(state, config, spec, reserved, None).map(|network| network.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_name_what_lies_outside_of_one_link_once() {
        let routes = [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "192.168.7.0/24",
            "192.168.7.9/32",
            "10.0.0.0/8",
            "169.254.0.0/16",
            "fe80::/64",
            "ff00::/8",
            "fd00:1::/64",
            "::1/128",
            "127.0.0.0/8",
        ];
        let subnets = reportable(routes.iter().map(|text| text.parse().unwrap()));
        let texts: Vec<String> = subnets.iter().map(IpNet::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "192.168.7.0/24", "fd00:1::/64"]);
        let many = (0..60_000_u32)
            .map(|index| IpNet::new(std::net::Ipv4Addr::from(0x1400_0000 + index * 512).into(), 24));
        assert_eq!(reportable(many.map(Result::unwrap)).len(), MAX_HOST_SUBNETS);
    }
}
