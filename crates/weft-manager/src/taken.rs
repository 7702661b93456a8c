//! A view as the allocator sees it, with what the transaction at hand has claimed so far.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_orchestration::{InUse, Taken};
use weft_types::Vni;

use crate::store::{Claim, Transaction, View};

/// A view and the claims added to it by one transaction.
pub(crate) struct ViewTaken<'a> {
    view: &'a View,
    added: InUse,
}

impl<'a> ViewTaken<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        Self { view, added: InUse::default() }
    }

    /// A view, and subnets that nodes use outside of the swarm.
    pub(crate) fn beside(view: &'a View, of_nodes: impl IntoIterator<Item = IpNet>) -> Self {
        let mut added = InUse::default();
        of_nodes.into_iter().for_each(|subnet| added.insert_subnet_of_node(subnet));
        Self { view, added }
    }

    /// Claims in the transaction, and remembers it for the allocations that follow.
    pub(crate) fn claim(
        &mut self,
        transaction: &mut Transaction,
        claims: impl IntoIterator<Item = weft_orchestration::Claim>,
        holder: &str,
    ) {
        for claim in claims {
            transaction.claim(&to_store(&claim), holder);
            self.added.insert(claim, holder);
        }
    }
}

pub(crate) fn to_store(claim: &weft_orchestration::Claim) -> Claim {
    match claim {
        weft_orchestration::Claim::Subnet(subnet) => Claim::Subnet(*subnet),
        weft_orchestration::Claim::Vni(vni) => Claim::Vni(vni.get()),
        weft_orchestration::Claim::Address { network, address } => {
            Claim::Address { network: network.clone(), address: *address }
        }
        weft_orchestration::Claim::Port { protocol, port } => {
            Claim::Port { protocol: *protocol, port: *port }
        }
    }
}

impl Taken for ViewTaken<'_> {
    fn subnets(&self) -> Vec<(IpNet, String)> {
        let held = self.view.subnets().map(|(subnet, holder)| (*subnet, holder.to_owned()));
        held.chain(self.added.subnets()).collect()
    }

    fn is_vni_taken(&self, vni: Vni) -> bool {
        self.view.is_held(&Claim::Vni(vni.get())) || self.added.is_vni_taken(vni)
    }

    fn highest_vni(&self) -> Option<Vni> {
        let held = self.view.highest_vni().and_then(|vni| Vni::try_from(vni).ok());
        held.max(self.added.highest_vni())
    }

    fn is_address_taken(&self, network: &str, address: IpAddr) -> bool {
        self.view.is_held(&Claim::Address { network: network.to_owned(), address })
            || self.added.is_address_taken(network, address)
    }

    fn addresses(&self, network: &str) -> Vec<IpAddr> {
        let held = self.view.addresses(network).map(|(address, _)| address);
        held.chain(self.added.addresses(network)).collect()
    }

    fn is_port_taken(&self, protocol: i32, port: u16) -> bool {
        self.view.is_held(&Claim::Port { protocol, port }) || self.added.is_port_taken(protocol, port)
    }

    fn subnets_of_nodes(&self) -> Vec<IpNet> {
        self.added.subnets_of_nodes()
    }
}
