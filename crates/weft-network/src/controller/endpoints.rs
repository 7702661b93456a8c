//! Joining and leaving networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weft_types::{ContainerId, EndpointAddress, EndpointId, MacAddr, NetworkId, TaskId};

use crate::config::ControllerConfig;
use crate::controller::networks::gateway_bridge;
use crate::controller::wishes::{
    check_endpoint, leaves_predefined, refuse_interface, refuse_kind, refuse_second,
};
use crate::controller::{Controller, Touched};
use crate::error::NetworkError;
use crate::ipam::{first_free, pool_use, takes};
use crate::network::{Driver, GATEWAY_BRIDGE, Network};
use crate::sandbox::{Endpoint, Sandbox};
use crate::spec::EndpointSpec;
use crate::state::State;
use crate::swarm::{AttachRefused, OverlaySpec, SwarmAttachment, SwarmNetworks};
use crate::view::{EndpointView, NetworkEvent};

/// A node of a swarm has its agent running within this time after the daemon's start.
const SWARM_WAIT: Duration = Duration::from_secs(20);
const SWARM_POLL: Duration = Duration::from_millis(50);
/// How the way out of overlay networks is called where another program names the interfaces.
const FOREIGN_WAY_OUT: &str = "weftgw";

impl Controller {
    /// Checks wishes before a container is made. A network that is not known here may be the swarm's: no complaint.
    pub fn check(&self, term: &str, spec: &EndpointSpec) -> Result<(), NetworkError> {
        match self.state.load().find_whole(term) {
            Ok(network) => check_endpoint(network, spec),
            Err(_) => Ok(()),
        }
    }

    /// Joins a network, also while the container runs.
    pub async fn connect(
        &self,
        container: &ContainerId,
        term: &str,
        spec: EndpointSpec,
    ) -> Result<EndpointView, NetworkError> {
        let attached = self.attach(container, term, &spec).await?;
        let joined = self.join(container, term, spec, attached.as_ref()).await;
        if joined.is_err()
            && let Some(attached) = attached
        {
            self.detach(vec![attached.attachment]).await;
        }
        joined
    }

    /// Gets a place if the network is the swarm's. Before the turn: it can take seconds.
    pub(super) async fn attach(
        &self,
        container: &ContainerId,
        term: &str,
        spec: &EndpointSpec,
    ) -> Result<Option<SwarmAttachment>, NetworkError> {
        let Some(answer) = self.ask_managers(container, term, spec).await? else { return Ok(None) };
        let refused = |reason: String| NetworkError::Attach { network: term.to_owned(), reason };
        let attached = answer.map_err(|error| match error {
            AttachRefused::NotFound => NetworkError::NotFound(term.to_owned()),
            other => refused(other.to_string()),
        })?;
        if let Some(reason) = self.why_not_encrypt(&attached.network) {
            self.detach(vec![attached.attachment]).await;
            return Err(refused(reason.to_owned()));
        }
        Ok(Some(attached))
    }

    /// The managers' answer; none: the network is this host's own. Only they know all names of the swarm, so what merely
    /// begins an id here is a name there first.
    async fn ask_managers(
        &self,
        container: &ContainerId,
        term: &str,
        spec: &EndpointSpec,
    ) -> Result<Option<Result<SwarmAttachment, AttachRefused>>, NetworkError> {
        let state = self.state.load_full();
        let known = match state.find_whole(term) {
            Ok(network) => Some(network),
            Err(NetworkError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let id = |network| place_in_swarm(&state, container, network);
        let asked = match known.map(id).transpose()? {
            Some(None) => return Ok(None),
            Some(Some(id)) => id,
            None => term.to_owned(),
        };
        let Some(swarm) = self.swarm_when_ready().await else {
            let is_own = state.find(term)?.overlay().is_none();
            return if is_own { Ok(None) } else { Err(NetworkError::NotFound(term.to_owned())) };
        };
        let wanted = wished_addresses(spec)?;
        let answer = swarm.attach(&asked, container, wanted.clone()).await;
        match (known, &answer, state.find(term)) {
            (None, Err(AttachRefused::NoSuchNetwork(_) | AttachRefused::NotFound), Ok(network)) => {
                match id(network)? {
                    Some(id) => Ok(Some(swarm.attach(&id, container, wanted).await)),
                    None => Ok(None),
                }
            }
            _ => Ok(Some(answer)),
        }
    }

    /// Fails closed: a container that would be alone on its network, or heard by others, is told instead.
    fn why_not_encrypt(&self, network: &OverlaySpec) -> Option<&'static str> {
        if !network.encrypted {
            return None;
        }
        match self.around.encryption {
            Some(_) => None,
            None if self.config.encryption_port.is_none() => Some(
                "this node cannot encrypt overlay networks: it is told not to (--weft-encryption-port 0)",
            ),
            None => Some(
                "this node cannot encrypt overlay networks: it has neither the kernel's ESP nor /dev/net/tun",
            ),
        }
    }

    /// After a restart containers can be started before the agent has found its managers: worth a wait.
    async fn swarm_when_ready(&self) -> Option<Arc<dyn SwarmNetworks>> {
        let deadline = tokio::time::Instant::now() + SWARM_WAIT;
        loop {
            let swarm = self.swarm_networks();
            let expected = self.state.load().swarm.is_some() && tokio::time::Instant::now() < deadline;
            if swarm.is_some() || !expected {
                return swarm;
            }
            tokio::time::sleep(SWARM_POLL).await;
        }
    }

    async fn join(
        &self,
        container: &ContainerId,
        term: &str,
        spec: EndpointSpec,
        attached: Option<&SwarmAttachment>,
    ) -> Result<EndpointView, NetworkError> {
        let _turn = self.turn.lock().await;
        let reserved = self.reserved_for_gateway().await;
        let (view, subject) = self
            .change(|state| {
                let network = match attached {
                    Some(attached) => note_overlay(state, attached).clone(),
                    None => state.find(term)?.clone(),
                };
                let sandbox = state.sandbox(container)?;
                refuse_kind(sandbox, &network, state)?;
                refuse_second(sandbox, &network)?;
                refuse_interface(sandbox, &spec)?;
                check_endpoint(&network, &spec)?;
                let endpoint = match attached {
                    Some(attached) => swarm_endpoint(sandbox, spec, attached),
                    None => local_endpoint(state, sandbox, &network, spec)?,
                };
                let id = endpoint.id.clone();
                state.sandbox_mut(container)?.endpoints.push(endpoint);
                keep_way_out(state, &self.config, container, &reserved)?;
                let sandbox = state.sandbox(container)?;
                let endpoint = sandbox.endpoints.iter().find(|e| e.id == id).ok_or_else(|| {
                    NetworkError::NotConnected {
                        container: container.to_string(),
                        network: network.name.clone(),
                    }
                })?;
                Ok(((sandbox.view(endpoint, &network), network.subject()), touched(container, [&network])))
            })
            .await?;
        tracing::info!(%container, network = %subject.id, endpoint = %view.id, interface = view.interface,
            address = view.address.map(|a| a.to_string()), "endpoint joined");
        self.tell(NetworkEvent::Connected(subject, container.clone()));
        Ok(view)
    }

    /// What a gateway bridge that is still to be made must keep clear of. Reading the host's routes takes time, and
    /// mostly the bridge is there.
    async fn reserved_for_gateway(&self) -> Vec<IpNet> {
        let there = self.state.load().networks().any(|n| n.name == GATEWAY_BRIDGE && n.bridge().is_some());
        if there { Vec::new() } else { self.host_routes().await }
    }

    /// Leaves a network.
    pub async fn disconnect(&self, container: &ContainerId, term: &str) -> Result<(), NetworkError> {
        let attachment = self.leave(container, term).await?;
        self.detach(attachment.into_iter().collect()).await;
        Ok(())
    }

    async fn leave(&self, container: &ContainerId, term: &str) -> Result<Option<TaskId>, NetworkError> {
        let _turn = self.turn.lock().await;
        let reserved = self.reserved_for_gateway().await;
        let (attachment, subject) = self
            .note_change(|state| {
                let network = state.find(term)?.clone();
                if leaves_predefined(state, container, &network)? {
                    return Ok(((None, network.subject()), Touched::default()));
                }
                let absent = || NetworkError::NotConnected {
                    container: container.to_string(),
                    network: network.name.clone(),
                };
                let sandbox = state.sandbox_mut(container).map_err(|_| absent())?;
                let at = sandbox.endpoints.iter().position(|e| e.network == network.id).ok_or_else(absent)?;
                let gone = sandbox.endpoints.remove(at);
                keep_way_out(state, &self.config, container, &reserved)?;
                forget_unused(state, [&network.id]);
                Ok(((gone.attachment, network.subject()), touched(container, [&network])))
            })
            .await?;
        tracing::info!(%container, network = %subject.id, "endpoint left");
        self.tell(NetworkEvent::Disconnected(subject, container.clone()));
        Ok(attachment)
    }
}

fn touched<'a>(container: &ContainerId, networks: impl IntoIterator<Item = &'a Network>) -> Touched {
    let overlays = networks.into_iter().filter(|n| n.overlay().is_some()).map(|n| n.id.clone()).collect();
    Touched { host: true, overlays, sandboxes: BTreeSet::from([container.clone()]), ..Touched::default() }
}

fn wished_addresses(spec: &EndpointSpec) -> Result<Vec<IpAddr>, NetworkError> {
    let texts = spec.ipv4.iter().chain(&spec.ipv6);
    let parse = |text: &String| {
        text.parse().map_err(|_| NetworkError::InvalidEndpoint(format!("invalid IP address: {text}")))
    };
    texts.map(parse).collect()
}

/// The id by which the managers know a network that a container is to join; none: it is this host's own.
fn place_in_swarm(
    state: &State,
    container: &ContainerId,
    network: &Network,
) -> Result<Option<String>, NetworkError> {
    let Driver::Overlay(overlay) = &network.driver else { return Ok(None) };
    refuse_second(state.sandbox(container)?, network)?;
    Ok(Some(overlay.id.to_string()))
}

/// Puts the network of an attachment among the known ones, or brings it up to date.
fn note_overlay<'a>(state: &'a mut State, attached: &SwarmAttachment) -> &'a Network {
    note_swarm_network(state, &attached.network)
}

/// Puts a network of the swarm among the known ones, or brings it up to date.
pub(super) fn note_swarm_network<'a>(state: &'a mut State, spec: &OverlaySpec) -> &'a Network {
    let network = state.networks_mut().entry(spec.id.clone()).or_insert_with(|| Network {
        id: spec.id.clone(),
        name: spec.name.clone(),
        created: std::time::SystemTime::now(),
        driver: Driver::Overlay(Box::new(spec.clone())),
        enable_ipv4: true,
        enable_ipv6: false,
        internal: spec.internal,
        attachable: spec.attachable,
        pools: Vec::new(),
        ipam_options: None,
        options: spec.options.clone(),
        labels: spec.labels.clone(),
        config_from: None,
    });
    network.driver = Driver::Overlay(Box::new(spec.clone()));
    network.enable_ipv6 = spec.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6());
    network
}

/// A node knows a network of the swarm only while it has endpoints on it; the ingress network as long as there is one.
pub(super) fn forget_unused<'a>(state: &mut State, networks: impl IntoIterator<Item = &'a NetworkId>) {
    for id in networks {
        let kept = state.ingress().is_some_and(|ingress| ingress.id == *id);
        if !kept
            && state.network(id).is_some_and(|n| n.overlay().is_some())
            && state.endpoints_on(id).next().is_none()
        {
            state.networks_mut().remove(id);
        }
    }
}

/// The wished Ethernet address, or the one that an address gives: on overlays every node derives it so, on bridges
/// neighbours that remember the address of a container that is gone reach the one that has it now.
fn mac_of(wished: Option<MacAddr>, addresses: [Option<EndpointAddress>; 2]) -> MacAddr {
    let derived = || addresses.into_iter().flatten().next().map(|address| MacAddr::from_ip(address.ip()));
    wished.or_else(derived).unwrap_or_else(|| MacAddr::random(&mut rand::rng()))
}

fn swarm_endpoint(sandbox: &Sandbox, spec: EndpointSpec, attached: &SwarmAttachment) -> Endpoint {
    let of = |ipv6: bool| attached.addresses.iter().find(|a| a.ip().is_ipv6() == ipv6).copied();
    let (address, address6) = (of(false), of(true));
    let mac = mac_of(spec.mac, [address, address6]);
    Endpoint {
        attachment: Some(attached.attachment.clone()),
        service: attached.service.clone(),
        ..endpoint(sandbox, attached.network.id.clone(), "eth", spec, mac, address, address6)
    }
}

fn endpoint(
    sandbox: &Sandbox,
    network: NetworkId,
    prefix: &str,
    spec: EndpointSpec,
    mac: MacAddr,
    address: Option<EndpointAddress>,
    address6: Option<EndpointAddress>,
) -> Endpoint {
    let id = EndpointId::random(&mut rand::rng());
    // Among the host's own interfaces the name has to be one of a kind.
    let in_host = sandbox.is_handed().then(|| format!("weft{}", &id.as_str()[..11]));
    let wished = spec.interface.or(in_host).and_then(|name| name.parse().ok());
    Endpoint {
        id,
        network,
        address,
        address6,
        mac,
        interface: wished.unwrap_or_else(|| sandbox.free_interface(prefix)),
        aliases: spec.aliases,
        links: spec.links,
        driver_opts: spec.driver_opts,
        priority: spec.gateway_priority,
        attachment: None,
        service: None,
        automatic: false,
        claim: spec.claim,
    }
}

fn local_endpoint(
    state: &State,
    sandbox: &Sandbox,
    network: &Network,
    spec: EndpointSpec,
) -> Result<Endpoint, NetworkError> {
    let address = local_address(state, network, false, spec.ipv4.as_deref())?;
    let address6 = local_address(state, network, true, spec.ipv6.as_deref())?;
    let mac = mac_of(spec.mac, [address, address6]);
    let prefix = match &network.driver {
        Driver::Bridge(settings) => &settings.interface_prefix,
        Driver::SubInterface(settings) => &settings.interface_prefix,
        _ => "eth",
    };
    Ok(endpoint(sandbox, network.id.clone(), prefix, spec, mac, address, address6))
}

/// The wished address, or the first that is free; none where the network has no subnet of the family.
fn local_address(
    state: &State,
    network: &Network,
    ipv6: bool,
    wished: Option<&str>,
) -> Result<Option<EndpointAddress>, NetworkError> {
    let Some(pool) = network.pools.iter().find(|pool| pool.subnet.addr().is_ipv6() == ipv6) else {
        return Ok(None);
    };
    let used = state.addresses_on(&network.id);
    if let Some(ip) = wished.and_then(|text| text.parse::<IpAddr>().ok()) {
        let taken = used.contains(&ip) || ip == pool.gateway || pool.auxiliary.values().any(|a| *a == ip);
        if taken || !takes(pool, ip) {
            return Err(NetworkError::AddressInUse(ip));
        }
        return Ok(Some(EndpointAddress::new(ip, pool.subnet)));
    }
    match first_free(pool, &used) {
        Some(ip) => Ok(Some(EndpointAddress::new(ip, pool.subnet))),
        None => {
            let full = pool_use(pool, &used);
            Err(NetworkError::AddressesExhausted {
                family: if ipv6 { "IPv6" } else { "IPv4" },
                network: network.name.clone(),
                id: network.id.to_string(),
                used: full.used,
                total: full.total,
            })
        }
    }
}

/// Containers on overlays get a place on the gateway bridge, unless another of their networks leads outside.
fn keep_way_out(
    state: &mut State,
    config: &ControllerConfig,
    container: &ContainerId,
    reserved: &[IpNet],
) -> Result<(), NetworkError> {
    let sandbox = state.sandbox(container)?;
    let has = sandbox.endpoints.iter().any(|endpoint| endpoint.automatic);
    match (state.wants_gateway_bridge(sandbox), has) {
        (true, false) => {
            let id = gateway_bridge(state, config, reserved)?;
            let network =
                state.network(&id).cloned().ok_or_else(|| NetworkError::NotFound(id.to_string()))?;
            let sandbox = state.sandbox(container)?;
            let made = local_endpoint(state, sandbox, &network, EndpointSpec::default())?;
            let mut made = Endpoint { automatic: true, driver_opts: BTreeMap::new(), ..made };
            if sandbox.foreign_netns().is_some() {
                // The usual names are for the other program to give.
                made.interface = sandbox.free_interface(FOREIGN_WAY_OUT);
            }
            state.sandbox_mut(container)?.endpoints.push(made);
        }
        (false, true) => state.sandbox_mut(container)?.endpoints.retain(|endpoint| !endpoint.automatic),
        _ => {}
    }
    Ok(())
}
