//! Which places a container may have, and what may be wished for them: refused in Docker's words.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_plan::LinkName;
use weft_types::ContainerId;

use crate::error::NetworkError;
use crate::ipam::join_complaints;
use crate::network::{Driver, Network};
use crate::sandbox::{Endpoint, Sandbox};
use crate::spec::{EndpointSpec, SandboxKind};
use crate::state::State;

/// Docker's complaints about wishes, all together.
pub(super) fn check_endpoint(network: &Network, spec: &EndpointSpec) -> Result<(), NetworkError> {
    let mut complaints = Vec::new();
    let wished: Vec<(bool, &String)> =
        spec.ipv4.iter().map(|ip| (false, ip)).chain(spec.ipv6.iter().map(|ip| (true, ip))).collect();
    for (ipv6, text) in &wished {
        if text.parse::<IpAddr>().map(|ip| ip.is_ipv6()) != Ok(*ipv6) {
            complaints.push(format!("invalid {} address: {text}", if *ipv6 { "IPv6" } else { "IPv4" }));
        }
    }
    if !wished.is_empty() && network.is_predefined() {
        complaints.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    let pools = local_or_swarm_pools(network);
    for (ipv6, text) in &wished {
        let mut own = pools.iter().filter(|pool| pool.0.addr().is_ipv6() == *ipv6).peekable();
        if own.peek().is_none_or(|pool| !pool.2) {
            let text = "user specified IP address is supported only when connecting to networks with user configured subnets";
            complaints.push(text.to_owned());
        } else if let Ok(ip) = text.parse::<IpAddr>()
            && !own.any(|(subnet, range, _)| {
                subnet.contains(&ip) && range.is_none_or(|range| range.contains(&ip))
            })
        {
            complaints.push(format!("no configured subnet or ip-range contain the IP address {ip}"));
        }
    }
    if !spec.aliases.is_empty() && network.is_predefined() {
        complaints.push("network-scoped aliases are only supported for user-defined networks".to_owned());
    }
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(NetworkError::InvalidEndpoint(join_complaints(&complaints)))
    }
}

/// Subnet, range, and whether the user may ask for an address of it.
fn local_or_swarm_pools(network: &Network) -> Vec<(IpNet, Option<IpNet>, bool)> {
    match network.overlay() {
        Some(spec) => spec.subnets.iter().map(|subnet| (subnet.subnet, None, true)).collect(),
        None => network.pools.iter().map(|pool| (pool.subnet, pool.range, pool.user_subnet)).collect(),
    }
}

pub(super) fn refuse_kind(sandbox: &Sandbox, network: &Network, state: &State) -> Result<(), NetworkError> {
    match (&sandbox.spec.kind, &network.driver) {
        (_, Driver::Config(_)) => Err(NetworkError::ConnectConfiguration),
        (SandboxKind::Shared(_), _)
        | (SandboxKind::Host, Driver::Bridge(_) | Driver::Overlay(_) | Driver::SubInterface(_)) => {
            Err(NetworkError::ConnectShared)
        }
        (SandboxKind::Host, _) => Ok(()),
        (SandboxKind::Handed, Driver::Overlay(_)) => Ok(()),
        (SandboxKind::Handed, _) => {
            let text = format!("{} is no overlay network: no other can be handed on", network.name);
            Err(NetworkError::InvalidEndpoint(text))
        }
        (_, Driver::Host) => Err(NetworkError::ConnectHost),
        (SandboxKind::None, Driver::Null) => Ok(()),
        (SandboxKind::None, _) | (_, Driver::Null) => Err(NetworkError::ConnectNone),
        _ => {
            let on_null = |e: &Endpoint| state.network(&e.network).is_some_and(|n| n.driver == Driver::Null);
            if sandbox.endpoints.iter().any(on_null) { Err(NetworkError::ConnectNone) } else { Ok(()) }
        }
    }
}

/// The host's network and none are no places that a container has: the one it keeps, the other it gives up, and then it
/// may be on any network. Whether it was that.
pub(super) fn leaves_predefined(
    state: &mut State,
    container: &ContainerId,
    network: &Network,
) -> Result<bool, NetworkError> {
    let Ok(sandbox) = state.sandbox_mut(container) else { return Ok(false) };
    match (&sandbox.spec.kind, &network.driver) {
        (SandboxKind::Host, Driver::Host) => Err(NetworkError::DisconnectHost),
        (SandboxKind::None, Driver::Null) => {
            sandbox.spec.kind = SandboxKind::Own;
            Ok(true)
        }
        _ => Ok(false),
    }
}

pub(super) fn refuse_second(sandbox: &Sandbox, network: &Network) -> Result<(), NetworkError> {
    // The automatic place on the gateway bridge gives way to one that the user asks for.
    match sandbox.endpoint_on(&network.id) {
        Some(endpoint) if !endpoint.automatic => Err(NetworkError::AlreadyConnected {
            container: sandbox.spec.name.clone(),
            network: network.name.clone(),
        }),
        _ => Ok(()),
    }
}

/// A wished interface must have a name that the kernel takes, and that nothing of ours has in this sandbox.
pub(super) fn refuse_interface(sandbox: &Sandbox, spec: &EndpointSpec) -> Result<(), NetworkError> {
    let Some(text) = &spec.interface else { return Ok(()) };
    let name = text.parse::<LinkName>().map_err(|error| NetworkError::InvalidEndpoint(error.to_string()))?;
    let is_taken = name == LinkName::lo() || sandbox.endpoints.iter().any(|e| e.interface == name);
    if is_taken { Err(NetworkError::InterfaceTaken(name.to_string())) } else { Ok(()) }
}
