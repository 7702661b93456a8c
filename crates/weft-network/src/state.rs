//! Everything the controller knows, as one value.
//!
//! Changes are made on a copy, which becomes the present state once the kernel agrees; nothing is ever half changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use weft_types::{ContainerId, NetworkId, TaskId};

use crate::error::NetworkError;
use crate::network::{Driver, Network};
use crate::sandbox::{Endpoint, Sandbox};
use crate::swarm::SwarmState;

/// The state: what survives reboots, and what lives with the namespaces.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) lasting: Arc<Lasting>,
    pub(crate) sandboxes: Arc<BTreeMap<ContainerId, Sandbox>>,
    /// The managers' last word. Without managers it stands, also after a restart.
    pub(crate) swarm: Option<Arc<SwarmState>>,
    /// This node's service tasks that take traffic, by the agent's last word.
    pub(crate) serving: Arc<BTreeSet<TaskId>>,
}

/// What survives reboots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lasting {
    /// This daemon's own IPv6 range.
    pub(crate) unique_local: Ipv6Net,
    /// Networks; those of the swarm as long as this node has endpoints on them, and cached beyond.
    pub(crate) networks: BTreeMap<NetworkId, Network>,
}

impl State {
    pub(crate) fn networks(&self) -> impl Iterator<Item = &Network> {
        self.lasting.networks.values()
    }

    pub(crate) fn swarm(&self) -> Option<&SwarmState> {
        self.swarm.as_deref()
    }

    pub(crate) fn network(&self, id: &NetworkId) -> Option<&Network> {
        self.lasting.networks.get(id)
    }

    /// The routing mesh's network, which every node of the swarm is on.
    pub(crate) fn ingress(&self) -> Option<&Network> {
        self.network(&self.swarm()?.ingress.as_ref()?.id)
    }

    pub(crate) fn networks_mut(&mut self) -> &mut BTreeMap<NetworkId, Network> {
        &mut Arc::make_mut(&mut self.lasting).networks
    }

    pub(crate) fn sandboxes_mut(&mut self) -> &mut BTreeMap<ContainerId, Sandbox> {
        Arc::make_mut(&mut self.sandboxes)
    }

    pub(crate) fn sandbox(&self, container: &ContainerId) -> Result<&Sandbox, NetworkError> {
        self.sandboxes.get(container).ok_or_else(|| NetworkError::NoSandbox(container.to_string()))
    }

    pub(crate) fn sandbox_mut(&mut self, container: &ContainerId) -> Result<&mut Sandbox, NetworkError> {
        self.sandboxes_mut().get_mut(container).ok_or_else(|| NetworkError::NoSandbox(container.to_string()))
    }

    /// Docker's rule: full id, then exact name, then unique prefix of an id.
    pub(crate) fn find(&self, term: &str) -> Result<&Network, NetworkError> {
        self.find_whole(term).or_else(|error| match error {
            NetworkError::NotFound(_) => {
                let prefixed =
                    self.networks().filter(|n| !term.is_empty() && n.id.as_str().starts_with(term));
                one(term, "ID prefix", prefixed)
            }
            error => Err(error),
        })
    }

    /// By full id or exact name. What only begins an id here may be the name of a network that only the managers know.
    pub(crate) fn find_whole(&self, term: &str) -> Result<&Network, NetworkError> {
        if let Some(network) = self.networks().find(|network| network.id.as_str() == term) {
            return Ok(network);
        }
        one(term, "name", self.networks().filter(|network| network.name == term))
    }

    /// Endpoints on a network, each with its sandbox.
    pub(crate) fn endpoints_on<'a>(
        &'a self,
        network: &'a NetworkId,
    ) -> impl Iterator<Item = (&'a Sandbox, &'a Endpoint)> + 'a {
        self.sandboxes
            .values()
            .flat_map(|sandbox| sandbox.endpoints.iter().map(move |e| (sandbox, e)))
            .filter(move |(_, endpoint)| endpoint.network == *network)
    }

    /// Whether new traffic may go to an endpoint: plain containers always, tasks by the agent's word.
    pub(crate) fn takes_traffic(&self, endpoint: &Endpoint) -> bool {
        endpoint.service.is_none()
            || endpoint.attachment.as_ref().is_some_and(|task| self.serving.contains(task))
    }

    /// Addresses that containers have on a network.
    pub(crate) fn addresses_on(&self, network: &NetworkId) -> BTreeSet<IpAddr> {
        self.endpoints_on(network).flat_map(|(_, endpoint)| endpoint.ips()).collect()
    }

    /// Subnets of all networks.
    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        let local = self.networks().flat_map(|network| network.pools.iter().map(|pool| pool.subnet));
        let swarm = self.networks().filter_map(Network::overlay).flat_map(|spec| spec.subnets.iter());
        local.chain(swarm.map(|subnet| subnet.subnet)).collect()
    }

    /// Whether the sandbox has a way out by one of its own networks, not counting the automatic one.
    pub(crate) fn has_own_way_out(&self, sandbox: &Sandbox) -> bool {
        sandbox
            .endpoints
            .iter()
            .filter(|endpoint| !endpoint.automatic)
            .any(|endpoint| self.network(&endpoint.network).is_some_and(Network::has_way_out))
    }

    /// Whether the sandbox is on an overlay network with a way out.
    pub(crate) fn wants_gateway_bridge(&self, sandbox: &Sandbox) -> bool {
        let overlay = |endpoint: &Endpoint| {
            let network = self.network(&endpoint.network);
            network.is_some_and(|n| matches!(n.driver, Driver::Overlay(_)) && !n.internal)
        };
        // Who moves interfaces on has a way out of its own.
        !sandbox.is_handed() && sandbox.endpoints.iter().any(overlay) && !self.has_own_way_out(sandbox)
    }

    /// Whether names are answered inside.
    pub(crate) fn has_resolver(&self, sandbox: &Sandbox) -> bool {
        sandbox.endpoints.iter().any(|e| self.network(&e.network).is_some_and(Network::has_resolver))
    }

    /// The endpoint that gives the default route: by priority, then name, as Docker; only networks with a router.
    pub(crate) fn gateway_endpoint<'a>(
        &self,
        sandbox: &'a Sandbox,
        ipv6: bool,
    ) -> Option<(&'a Endpoint, IpAddr)> {
        let mut found: Option<(&Endpoint, IpAddr, &str)> = None;
        for endpoint in &sandbox.endpoints {
            let Some(network) = self.network(&endpoint.network) else { continue };
            if !network.has_way_out() {
                continue;
            }
            let own = if ipv6 { endpoint.address6 } else { endpoint.address };
            let pool = network.pools.iter().find(|pool| pool.subnet.addr().is_ipv6() == ipv6);
            let (Some(_), Some(pool)) = (own, pool) else { continue };
            let better = found.is_none_or(|(best, _, name)| {
                (endpoint.priority, std::cmp::Reverse(network.name.as_str()))
                    > (best.priority, std::cmp::Reverse(name))
            });
            if better {
                found = Some((endpoint, pool.gateway, &network.name));
            }
        }
        found.map(|(endpoint, gateway, _)| (endpoint, gateway))
    }
}

/// The only one, none, or a complaint about several.
fn one<'a>(
    term: &str,
    by: &'static str,
    mut found: impl Iterator<Item = &'a Network>,
) -> Result<&'a Network, NetworkError> {
    let first = found.next().ok_or_else(|| NetworkError::NotFound(term.to_owned()))?;
    match found.count() {
        0 => Ok(first),
        more => Err(NetworkError::Ambiguous { term: term.to_owned(), matches: more + 1, by }),
    }
}
