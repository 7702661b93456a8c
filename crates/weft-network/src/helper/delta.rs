//! What changed between two wishes: a change among a thousand services is told and followed in milliseconds.
//!
//! Invariant: `HelperDelta::between(old, new)` applied to `old` gives `new`, but for the order of sandboxes, networks and
//! records, which means nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_plan::{BalancedService, Balancer, NamespaceRef, NamespaceState};

use crate::helper::protocol::{
    BalancedPlaces, EncryptionWish, GossipWish, HelperState, LeaseWish, ResolverWish,
};
use crate::resolver::{NetworkNames, RecordChange};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HelperDelta {
    /// The generation that it changes.
    pub(crate) base: u64,
    /// The generation that it makes.
    pub(crate) generation: u64,
    /// New or changed.
    pub(crate) sandboxes: Vec<ResolverWish>,
    pub(crate) gone_sandboxes: Vec<String>,
    /// New or changed.
    pub(crate) networks: Vec<NetworkDelta>,
    pub(crate) gone_networks: Vec<String>,
    pub(crate) gossip: Whole<GossipWish>,
    pub(crate) encryption: Whole<EncryptionWish>,
    pub(crate) lease: Whole<LeaseWish>,
    /// New or changed.
    pub(crate) audit: Vec<(NamespaceRef, NamespaceState)>,
    /// What changed of services reached by virtual IP.
    pub(crate) balance: Option<BalanceDelta>,
    /// All namespaces in their order, if that changed.
    pub(crate) audit_order: Option<Vec<NamespaceRef>>,
}

/// Something that may be absent, told whole if it changed. (JSON does not tell apart an option in an option.)
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Whole<T> {
    #[default]
    AsBefore,
    Now(Option<T>),
}

impl<T: Clone + PartialEq> Whole<T> {
    fn between(old: Option<&T>, new: Option<&T>) -> Self {
        if old == new { Self::AsBefore } else { Self::Now(new.cloned()) }
    }

    fn apply(&self, state: &mut Option<T>) {
        if let Self::Now(now) = self {
            state.clone_from(now);
        }
    }

    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Self::Now(_))
    }
}

/// What changed of services reached by virtual IP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum BalanceDelta {
    /// The whole: places or settings changed.
    All(Vec<BalancedPlaces>),
    /// Of each set of places, in order: services that are new or changed, and those that are gone.
    Services(Vec<(BTreeMap<IpAddr, BalancedService>, Vec<IpAddr>)>),
}

impl BalanceDelta {
    fn between(old: &[BalancedPlaces], new: &[BalancedPlaces]) -> Option<Self> {
        let same = |old: &BalancedPlaces, new: &BalancedPlaces| {
            Arc::ptr_eq(&old.balancer, &new.balancer) || old.balancer == new.balancer
        };
        let pairs = || old.iter().zip(new);
        if old.len() != new.len() || !pairs().all(|(old, new)| old.differs_in_services_only(new)) {
            return Some(Self::All(new.to_vec()));
        }
        let changed = pairs().any(|(old, new)| !same(old, new));
        changed.then(|| {
            Self::Services(pairs().map(|(old, new)| services(&old.balancer, &new.balancer)).collect())
        })
    }

    fn apply(&self, balance: &mut Vec<BalancedPlaces>) {
        match self {
            Self::All(all) => balance.clone_from(all),
            Self::Services(changes) => {
                for (places, (changed, gone)) in balance.iter_mut().zip(changes) {
                    let services = &mut Arc::make_mut(&mut places.balancer).services;
                    services.retain(|vip, _| !gone.contains(vip));
                    services.extend(changed.iter().map(|(vip, service)| (*vip, service.clone())));
                }
            }
        }
    }
}

fn services(old: &Balancer, new: &Balancer) -> (BTreeMap<IpAddr, BalancedService>, Vec<IpAddr>) {
    let changed = new.services.iter().filter(|(vip, service)| old.services.get(vip) != Some(service));
    let gone = old.services.keys().filter(|vip| !new.services.contains_key(vip));
    (changed.map(|(vip, service)| (*vip, service.clone())).collect(), gone.copied().collect())
}

/// What changed on one network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkDelta {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) subnets: Vec<IpNet>,
    pub(crate) records: RecordChange,
}

impl NetworkDelta {
    fn between(old: Option<&NetworkNames>, new: &NetworkNames) -> Option<Self> {
        let known = old.map_or(&[][..], |old| &old.records);
        let records = if known == new.records {
            RecordChange::default()
        } else {
            RecordChange::between(known, &new.records)
        };
        let same = old.is_some_and(|old| old.name == new.name && old.subnets == new.subnets);
        (!same || !records.is_empty()).then(|| Self {
            id: new.id.clone(),
            name: new.name.clone(),
            subnets: new.subnets.clone(),
            records,
        })
    }

    /// As a network that was not known before.
    pub(crate) fn into_names(self) -> NetworkNames {
        NetworkNames { id: self.id, name: self.name, subnets: self.subnets, records: self.records.added }
    }
}

impl HelperDelta {
    /// What leads from one wish to another.
    pub(crate) fn between(old: &HelperState, new: &HelperState) -> Self {
        let sandboxes: HashMap<&str, &ResolverWish> =
            old.sandboxes.iter().map(|w| (w.id.as_str(), w)).collect();
        let networks: HashMap<&str, &NetworkNames> =
            old.networks.iter().map(|n| (n.id.as_str(), n)).collect();
        let audit: HashMap<&NamespaceRef, &NamespaceState> = old.audit.iter().map(|(p, s)| (p, s)).collect();
        let is_new = |wish: &&ResolverWish| sandboxes.get(wish.id.as_str()) != Some(wish);
        let is_other = |(place, state): &&(NamespaceRef, NamespaceState)| audit.get(place) != Some(&state);
        let same_order = old.audit.len() == new.audit.len()
            && old.audit.iter().zip(&new.audit).all(|((old, _), (new, _))| old == new);
        let order = || new.audit.iter().map(|(place, _)| place.clone()).collect();
        Self {
            base: old.generation,
            generation: new.generation,
            sandboxes: new.sandboxes.iter().filter(is_new).cloned().collect(),
            gone_sandboxes: gone(old.sandboxes.iter().map(|w| &w.id), new.sandboxes.iter().map(|w| &w.id)),
            networks: new
                .networks
                .iter()
                .filter_map(|names| NetworkDelta::between(networks.get(names.id.as_str()).copied(), names))
                .collect(),
            gone_networks: gone(old.networks.iter().map(|n| &n.id), new.networks.iter().map(|n| &n.id)),
            gossip: Whole::between(old.gossip.as_ref(), new.gossip.as_ref()),
            encryption: Whole::between(old.encryption.as_ref(), new.encryption.as_ref()),
            lease: Whole::between(old.lease.as_ref(), new.lease.as_ref()),
            audit: new.audit.iter().filter(is_other).cloned().collect(),
            balance: BalanceDelta::between(&old.balance, &new.balance),
            audit_order: (!same_order).then(order),
        }
    }

    /// Takes a wish from the old state to the new one.
    pub(crate) fn apply(&self, state: &mut HelperState) {
        state.generation = self.generation;
        let is_kept = |wish: &ResolverWish| {
            !self.gone_sandboxes.contains(&wish.id) && !self.sandboxes.iter().any(|new| new.id == wish.id)
        };
        state.sandboxes.retain(is_kept);
        state.sandboxes.extend_from_slice(&self.sandboxes);
        state.networks.retain(|names| !self.gone_networks.contains(&names.id));
        for delta in &self.networks {
            match state.networks.iter_mut().find(|names| names.id == delta.id) {
                Some(names) => {
                    names.name.clone_from(&delta.name);
                    names.subnets.clone_from(&delta.subnets);
                    delta.records.apply(&mut names.records);
                }
                None => state.networks.push(delta.clone().into_names()),
            }
        }
        self.gossip.apply(&mut state.gossip);
        self.encryption.apply(&mut state.encryption);
        self.lease.apply(&mut state.lease);
        if let Some(balance) = &self.balance {
            balance.apply(&mut state.balance);
        }
        self.apply_audit(&mut state.audit);
    }

    fn apply_audit(&self, audit: &mut Vec<(NamespaceRef, NamespaceState)>) {
        if self.audit.is_empty() && self.audit_order.is_none() {
            return;
        }
        let order: Vec<NamespaceRef> = match &self.audit_order {
            Some(order) => order.clone(),
            None => audit.iter().map(|(place, _)| place.clone()).collect(),
        };
        let mut states: HashMap<NamespaceRef, NamespaceState> = audit.drain(..).collect();
        states.extend(self.audit.iter().cloned());
        let in_order = order.into_iter().filter_map(|place| states.remove_entry(&place));
        audit.extend(in_order);
    }
}

fn gone<'a>(old: impl Iterator<Item = &'a String>, new: impl Iterator<Item = &'a String>) -> Vec<String> {
    let new: HashSet<&String> = new.collect();
    old.filter(|id| !new.contains(id)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resolver::NameRecord;

    fn wish(id: u8, ndots_set: bool) -> ResolverWish {
        ResolverWish {
            id: id.to_string(),
            netns: "/run/ns".into(),
            ports: None,
            networks: Vec::new(),
            private: Vec::new(),
            upstreams: Vec::new(),
            ndots_set,
            isolated: false,
            stack: None,
        }
    }

    fn names(id: u8, records: &[u8]) -> NetworkNames {
        let record = |n: &u8| NameRecord { names: vec![n.to_string()], ..NameRecord::default() };
        NetworkNames {
            id: id.to_string(),
            name: format!("net{}", records.len() % 2),
            subnets: Vec::new(),
            records: records.iter().map(record).collect(),
        }
    }

    fn gossip(port: u8) -> GossipWish {
        GossipWish {
            advertise: ([192, 0, 2, 1], u16::from(port)).into(),
            keys: Vec::new(),
            join: Vec::new(),
            networks: Vec::new(),
            entries: Vec::new(),
            owners: None,
        }
    }

    fn place(id: u8, sysctl: bool) -> (NamespaceRef, NamespaceState) {
        let mut state = NamespaceState::default();
        if sysctl {
            state.sysctls.insert("net/ipv4/ip_forward".to_owned(), "1".to_owned());
        }
        (NamespaceRef::at(format!("/ns/{id}")), state)
    }

    /// Places that reach services, whose tasks are few, so that often only one differs.
    fn balanced(places: u8, sockets: bool, services: &[(u8, u8)]) -> BalancedPlaces {
        let service = |task: u8| BalancedService::new([(IpAddr::from([10, 0, 1, task]), 1)].into(), None);
        let services =
            services.iter().map(|(n, task)| (IpAddr::from([10, 0, 0, *n]), service(*task))).collect();
        let balancer = Balancer { sockets, services, ..Balancer::default() };
        let places = (0..places).map(|id| NamespaceRef::at(format!("/ns/{id}"))).collect();
        BalancedPlaces { balancer: Arc::new(balancer), places }
    }

    fn balance() -> impl Strategy<Value = Vec<BalancedPlaces>> {
        let services = proptest::collection::vec((0u8..6, 0u8..3), 0..5);
        let one = (1u8..3, any::<bool>(), services)
            .prop_map(|(places, sockets, services)| balanced(places, sockets, &services));
        proptest::collection::vec(one, 0..3)
    }

    /// States with ids that appear once each.
    fn state() -> impl Strategy<Value = HelperState> {
        let ids = || proptest::sample::subsequence((0u8..6).collect::<Vec<_>>(), 0..6).prop_shuffle();
        let records = proptest::collection::vec(proptest::collection::vec(0u8..5, 0..4), 6);
        (any::<u64>(), ids(), ids(), ids(), any::<u8>(), records, balance()).prop_map(
            |(generation, sandboxes, networks, places, flags, records, balance)| HelperState {
                generation,
                sandboxes: sandboxes.into_iter().map(|id| wish(id, flags >> id & 1 == 1)).collect(),
                networks: networks.into_iter().map(|id| names(id, &records[usize::from(id)])).collect(),
                gossip: (flags & 1 == 0).then(|| gossip(flags)),
                encryption: None,
                lease: None,
                balance,
                audit: places.into_iter().map(|id| place(id, flags >> id & 1 == 1)).collect(),
            },
        )
    }

    /// Without the orders that mean nothing.
    fn sorted(mut state: HelperState) -> HelperState {
        state.sandboxes.sort_by(|a, b| a.id.cmp(&b.id));
        state.networks.sort_by(|a, b| a.id.cmp(&b.id));
        state.networks.iter_mut().for_each(|names| names.records.sort_by(|a, b| a.names.cmp(&b.names)));
        state
    }

    proptest! {
        #[test]
        fn a_change_leads_from_the_old_to_the_new(old in state(), new in state()) {
            let delta = HelperDelta::between(&old, &new);
            let told: HelperDelta = serde_json::from_slice(&serde_json::to_vec(&delta).unwrap()).unwrap();
            prop_assert_eq!(&told, &delta);
            let mut changed = old;
            delta.apply(&mut changed);
            prop_assert_eq!(sorted(changed), sorted(new));
        }

        #[test]
        fn nothing_changed_is_nothing_told(state in state()) {
            let generation = state.generation;
            let delta = HelperDelta::between(&state, &state);
            prop_assert_eq!(delta, HelperDelta { base: generation, generation, ..HelperDelta::default() });
        }
    }
}
