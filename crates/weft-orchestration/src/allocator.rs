//! The leader's memory of what to try next.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use weft_types::Vni;
use weft_wire::swarmkit::{Cluster, Network};

use crate::network::subnets_of;
use crate::rotation::Rotation;
use crate::{AddressPools, Claim, PoolError, Taken, UlaPrefix};

/// What the allocator needs to know of the swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatorConfig {
    /// Where networks without a subnet of their own take one from.
    pub pools: AddressPools,
    /// Where networks with IPv6 but without an IPv6 subnet take one from.
    pub ula: UlaPrefix,
    /// Identifiers of networks that name none of their own.
    pub vnis: RangeInclusive<Vni>,
}

impl AllocatorConfig {
    /// The swarm's.
    pub fn of_cluster(cluster: &Cluster) -> Result<Self, PoolError> {
        Ok(Self {
            pools: AddressPools::of_cluster(cluster)?,
            ula: UlaPrefix::of_swarm(&cluster.id),
            vnis: Vni::FIRST..=Vni::MAX,
        })
    }

    /// That of hosts which share a key-value store; `site` tells one such group from another. Their identifiers are
    /// none that a swarm gives out.
    pub fn of_site(site: &str) -> Self {
        Self {
            pools: AddressPools::default(),
            ula: UlaPrefix::of_swarm(site),
            vnis: Vni::FIRST_GLOBAL..=Vni::LAST_GLOBAL,
        }
    }
}

/// Computes allocations. Only an order of trying is kept here, so losing it (a new leader) costs nothing but
/// earlier reuse, and calling it for a proposal that is then refused does no harm.
#[derive(Debug, Clone)]
pub struct Allocator {
    pub(crate) config: AllocatorConfig,
    /// The last identifier given, so that a freed one is not given again at once.
    pub(crate) last_vni: Option<Vni>,
    pub(crate) rotations: BTreeMap<String, Rotation>,
    /// The last port given without being asked for, by protocol.
    pub(crate) last_ports: BTreeMap<i32, u16>,
}

impl Allocator {
    /// An allocator that goes on behind what is taken. Networks not in `networks` follow when first asked for.
    pub fn rebuild<'a>(
        config: AllocatorConfig,
        networks: impl IntoIterator<Item = &'a Network>,
        taken: &(impl Taken + ?Sized),
    ) -> Self {
        let mut allocator = Self {
            config,
            last_vni: taken.highest_vni(),
            rotations: BTreeMap::new(),
            last_ports: BTreeMap::new(),
        };
        for network in networks {
            allocator.rotation(network, taken);
        }
        allocator
    }

    /// Goes on behind these addresses of a network, the last that were given from its subnets, whatever is held now.
    pub fn go_on_behind(&mut self, network: &Network, last: &[IpAddr]) {
        let subnets = subnets_of(network).unwrap_or_default();
        self.rotations.insert(network.id.clone(), Rotation::behind(&subnets, last));
    }

    /// Remembers that an address was freed, so that it rests before it is given again. Optional: whether an
    /// address is free is the store's to say.
    pub fn released(&mut self, network: &str, address: IpAddr) {
        if let Some(rotation) = self.rotations.get_mut(network) {
            rotation.rest(address);
        }
    }

    /// [`Self::released`] for the addresses among claims.
    pub fn rest<'a>(&mut self, claims: impl IntoIterator<Item = &'a Claim>) {
        for claim in claims {
            if let Claim::Address { network, address } = claim {
                self.released(network, *address);
            }
        }
    }

    /// Forgets a removed network.
    pub fn forget_network(&mut self, network: &str) {
        self.rotations.remove(network);
    }

    pub(crate) fn rotation(&mut self, network: &Network, taken: &(impl Taken + ?Sized)) -> &mut Rotation {
        self.rotations.entry(network.id.clone()).or_insert_with(|| {
            let subnets = subnets_of(network).unwrap_or_default();
            Rotation::behind(&subnets, &taken.addresses(&network.id))
        })
    }
}
