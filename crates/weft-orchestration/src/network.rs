//! Subnets and VXLAN network identifiers of a network.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weft_types::Vni;
use weft_wire::swarmkit::{Driver, IpamOptions, Network, NetworkSpec};

use crate::subnet::{Subnet, overlap};
use crate::{AllocationError, Allocator, Claim, Taken, mtu_option};

/// Driver option with one identifier per IPv4 subnet, in the same order, separated by commas.
pub const VXLAN_ID_LIST_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";
const OVERLAY: &str = "overlay";
const DEFAULT_IPAM: &str = "default";
/// Drivers of networks that each node makes for itself when a task needs them.
const NODE_LOCAL_DRIVERS: [&str; 5] = ["bridge", "host", "ipvlan", "macvlan", "null"];

/// What to write into a new network, and what it needs to hold alone.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkAllocation {
    /// For `Network.driver_state`: the user's options and the identifiers.
    pub driver_state: Driver,
    /// For `Network.ipam`: all subnets with their gateways.
    pub ipam: IpamOptions,
    /// To be claimed in the same transaction, with the network as holder.
    pub claims: Vec<Claim>,
}

impl NetworkAllocation {
    /// Of a network that each node makes for itself.
    fn nothing(driver: String) -> Self {
        Self {
            driver_state: Driver { name: driver, ..Driver::default() },
            // Docker's nodes read it without asking whether it is there.
            ipam: IpamOptions { driver: Some(Driver::default()), ..IpamOptions::default() },
            claims: Vec::new(),
        }
    }

    /// Writes the allocation into `network`.
    pub fn write_to(&self, network: &mut Network) {
        network.driver_state = Some(self.driver_state.clone());
        network.ipam = Some(self.ipam.clone());
    }
}

/// The identifiers of an allocated network, one per IPv4 subnet.
pub fn network_vnis(network: &Network) -> Result<Vec<Vni>, AllocationError> {
    network.driver_state.as_ref().map_or_else(|| Ok(Vec::new()), |driver| parse_vni_list(&driver.options))
}

/// The subnets of an allocated network.
pub(crate) fn subnets_of(network: &Network) -> Result<Vec<Subnet>, AllocationError> {
    let configs = network.ipam.as_ref().map_or(&[][..], |ipam| &ipam.configs);
    configs.iter().map(Subnet::parse).collect()
}

/// Whether each node has this network for itself, so that the managers give nothing on it.
pub(crate) fn is_node_local(network: &Network) -> bool {
    let configured = network.spec.as_ref().and_then(|spec| spec.driver_config.as_ref());
    let driver = network.driver_state.as_ref().or(configured);
    driver.is_some_and(|driver| !matches!(driver.name.as_str(), "" | OVERLAY))
}

pub(crate) fn name_of(spec: Option<&NetworkSpec>) -> String {
    spec.and_then(|spec| spec.annotations.as_ref()).map(|it| it.name.clone()).unwrap_or_default()
}

impl Allocator {
    /// Subnets and identifiers for a new network with this id.
    pub fn network(
        &mut self,
        id: &str,
        spec: &NetworkSpec,
        taken: &(impl Taken + ?Sized),
    ) -> Result<NetworkAllocation, AllocationError> {
        let driver = spec.driver_config.clone().unwrap_or_default();
        if NODE_LOCAL_DRIVERS.contains(&driver.name.as_str()) {
            return Ok(NetworkAllocation::nothing(driver.name));
        }
        if !matches!(driver.name.as_str(), "" | OVERLAY) {
            return Err(AllocationError::Driver(driver.name));
        }
        mtu_option(&driver.options)?;
        let subnets = self.subnets(spec, taken)?;
        let ipv4_subnets = subnets.iter().filter(|subnet| subnet.is_ipv4()).count();
        let vnis = self.vnis(spec, &driver.options, ipv4_subnets, taken)?;
        Ok(NetworkAllocation {
            driver_state: driver_state(driver.options, &vnis),
            ipam: IpamOptions {
                driver: Some(ipam_driver(spec)),
                configs: subnets.iter().map(Subnet::to_config).collect(),
            },
            claims: claims(id, &subnets, &vnis),
        })
    }

    fn subnets(
        &self,
        spec: &NetworkSpec,
        taken: &(impl Taken + ?Sized),
    ) -> Result<Vec<Subnet>, AllocationError> {
        let name = name_of(Some(spec));
        let held = taken.subnets();
        let configs = spec.ipam.as_ref().map_or(&[][..], |ipam| &ipam.configs);
        let mut subnets: Vec<Subnet> = Vec::new();
        for config in configs {
            let subnet = Subnet::parse(config)?;
            refuse_overlap(&subnet, &subnets, &held)?;
            if subnet.capacity() == 0 {
                return Err(AllocationError::SubnetTooSmall { network: name, subnet: subnet.subnet });
            }
            subnets.push(subnet);
        }
        if !subnets.iter().any(Subnet::is_ipv4) {
            let pools = &self.config.pools;
            let free = free_subnet(taken, &held, &subnets, |in_use| pools.first_free(in_use));
            let free = free.ok_or_else(|| AllocationError::PoolsExhausted {
                network: name.clone(),
                pools: pools.to_string(),
                size: pools.subnet_size(),
                total: pools.subnet_count(),
            })?;
            subnets.push(Subnet::plain(free));
        }
        if spec.ipv6_enabled && subnets.iter().all(Subnet::is_ipv4) {
            let free = free_subnet(taken, &held, &subnets, |in_use| self.config.ula.first_free(in_use));
            let free = free.ok_or_else(|| AllocationError::PoolsExhausted {
                network: name.clone(),
                pools: "unique local IPv6 prefix of the swarm".to_owned(),
                size: 64,
                total: 1 << 16,
            })?;
            subnets.push(Subnet::plain(free));
        }
        Ok(subnets)
    }

    /// The user's identifiers, then new ones up to `count`.
    fn vnis(
        &mut self,
        spec: &NetworkSpec,
        options: &BTreeMap<String, String>,
        count: usize,
        taken: &(impl Taken + ?Sized),
    ) -> Result<Vec<Vni>, AllocationError> {
        let mut vnis = parse_vni_list(options)?;
        for (index, vni) in vnis.iter().enumerate() {
            if taken.is_vni_taken(*vni) || vnis[..index].contains(vni) {
                return Err(AllocationError::VniTaken(vni.get()));
            }
        }
        while vnis.len() < count {
            let next = self.next_vni(|vni| taken.is_vni_taken(vni) || vnis.contains(&vni));
            vnis.push(next.ok_or_else(|| AllocationError::VnisExhausted {
                network: name_of(Some(spec)),
                total: self.config.vnis.end().get() - self.config.vnis.start().get() + 1,
            })?);
        }
        Ok(vnis)
    }

    /// The next identifier upward from the last one given, round at the end.
    fn next_vni(&mut self, is_taken: impl Fn(Vni) -> bool) -> Option<Vni> {
        let (first, max) = (self.config.vnis.start().get(), self.config.vnis.end().get());
        let start = self.last_vni.map_or(first, |last| last.get() + 1).max(first);
        let serial = (start..=max).chain(first..=max).filter_map(|number| Vni::try_from(number).ok());
        let found = { serial }.find(|vni| !is_taken(*vni))?;
        self.last_vni = Some(found);
        Some(found)
    }
}

/// The first that overlaps neither a network's subnet nor, if there is such, what nodes use outside of the swarm.
///
/// A node that routes a whole pool elsewhere, to a private network say, does not make the swarm refuse networks: the
/// managers warn of the clash instead.
fn free_subnet(
    taken: &(impl Taken + ?Sized),
    held: &[(IpNet, String)],
    siblings: &[Subnet],
    first_free: impl Fn(&[IpNet]) -> Option<IpNet>,
) -> Option<IpNet> {
    let in_use: Vec<IpNet> =
        held.iter().map(|(net, _)| *net).chain(siblings.iter().map(|sibling| sibling.subnet)).collect();
    let avoided = [in_use.clone(), taken.subnets_of_nodes()].concat();
    first_free(&avoided).or_else(|| first_free(&in_use))
}

/// The first subnet of a network that overlaps one that a node uses outside of the swarm, with that one: containers
/// of the one do not reach hosts of the other.
pub fn subnet_clash(network: &Network, of_node: &[IpNet]) -> Option<(IpNet, IpNet)> {
    let subnets = subnets_of(network).ok()?;
    subnets.iter().find_map(|subnet| {
        let clash = of_node.iter().find(|net| overlap(net, &subnet.subnet))?;
        Some((subnet.subnet, *clash))
    })
}

fn refuse_overlap(
    wanted: &Subnet,
    siblings: &[Subnet],
    held: &[(IpNet, String)],
) -> Result<(), AllocationError> {
    let sibling = siblings.iter().map(|sibling| (sibling.subnet, None));
    let other = held.iter().map(|(net, holder)| (*net, Some(holder.clone())));
    match sibling.chain(other).find(|(net, _)| overlap(net, &wanted.subnet)) {
        None => Ok(()),
        Some((taken, holder)) => Err(AllocationError::Overlap { wanted: wanted.subnet, taken, holder }),
    }
}

fn parse_vni_list(options: &BTreeMap<String, String>) -> Result<Vec<Vni>, AllocationError> {
    let Some(list) = options.get(VXLAN_ID_LIST_OPTION).filter(|list| !list.is_empty()) else {
        return Ok(Vec::new());
    };
    let parse = |text: &str| {
        let number: u32 = text.trim().parse().map_err(|_| AllocationError::VniSyntax(text.to_owned()))?;
        Ok(Vni::try_from(number)?)
    };
    list.split(',').map(parse).collect()
}

fn driver_state(mut options: BTreeMap<String, String>, vnis: &[Vni]) -> Driver {
    let list: Vec<String> = vnis.iter().map(Vni::to_string).collect();
    options.insert(VXLAN_ID_LIST_OPTION.to_owned(), list.join(","));
    Driver { name: OVERLAY.to_owned(), options }
}

fn ipam_driver(spec: &NetworkSpec) -> Driver {
    let mut driver = spec.ipam.as_ref().and_then(|ipam| ipam.driver.clone()).unwrap_or_default();
    if driver.name.is_empty() {
        driver.name = DEFAULT_IPAM.to_owned();
    }
    driver
}

fn claims(id: &str, subnets: &[Subnet], vnis: &[Vni]) -> Vec<Claim> {
    let kept = subnets.iter().flat_map(Subnet::kept);
    let addresses = kept.map(|address| Claim::Address { network: id.to_owned(), address });
    let whole = subnets.iter().map(|subnet| Claim::Subnet(subnet.subnet));
    whole.chain(vnis.iter().copied().map(Claim::Vni)).chain(addresses).collect()
}
