//! The managers that this node knows, and which one to try next.

use std::net::SocketAddr;

use weft_wire::swarmkit::WeightedPeer;

/// What one failure costs in weight; SwarmKit gives every manager 10.
const PENALTY: i64 = 5;
/// A manager that failed is still tried now and then.
const MIN_WEIGHT: i64 = 1;
const DEFAULT_WEIGHT: i64 = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Manager {
    address: SocketAddr,
    node_id: String,
    weight: i64,
    penalty: i64,
}

/// A set of managers to choose from at random by weight. Never empty once it was filled.
#[derive(Debug, Clone, Default)]
pub(crate) struct ManagerSet {
    managers: Vec<Manager>,
}

impl ManagerSet {
    /// Managers known by address only: from the command line or from disk.
    pub(crate) fn from_addresses(addresses: &[SocketAddr]) -> Self {
        let manager = |address: &SocketAddr| Manager {
            address: *address,
            node_id: String::new(),
            weight: DEFAULT_WEIGHT,
            penalty: 0,
        };
        Self { managers: addresses.iter().map(manager).collect() }
    }

    /// Takes the list of a session message over. An empty one means "unchanged"; returns whether anything changed.
    pub(crate) fn replace(&mut self, peers: &[WeightedPeer]) -> bool {
        let mut managers: Vec<Manager> = peers
            .iter()
            .filter_map(|weighted| {
                let peer = weighted.peer.as_ref()?;
                let address = peer.addr.parse().ok()?;
                let penalty = self.find(address).map_or(0, |known| known.penalty);
                Some(Manager { address, node_id: peer.node_id.clone(), weight: weighted.weight, penalty })
            })
            .collect();
        managers.sort_by_key(|manager| manager.address);
        if managers.is_empty() || managers == self.managers {
            return false;
        }
        self.managers = managers;
        true
    }

    /// A manager by weight; `fraction` in 0..1 is the random part.
    pub(crate) fn choose(&self, fraction: f64) -> Option<SocketAddr> {
        let weight = |manager: &Manager| (manager.weight - manager.penalty).max(MIN_WEIGHT);
        let total: i64 = self.managers.iter().map(weight).sum();
        let mut rest = (total as f64 * fraction) as i64;
        for manager in &self.managers {
            rest -= weight(manager);
            if rest < 0 {
                return Some(manager.address);
            }
        }
        self.managers.last().map(|manager| manager.address)
    }

    /// Notes how a connection to `address` went.
    pub(crate) fn observe(&mut self, address: SocketAddr, worked: bool) {
        if let Some(manager) = self.managers.iter_mut().find(|manager| manager.address == address) {
            manager.penalty = if worked { 0 } else { manager.penalty + PENALTY };
        }
    }

    /// All addresses.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.managers.iter().map(|manager| manager.address).collect()
    }

    /// Node ids with addresses; the ids of managers known by address only are empty.
    pub(crate) fn peers(&self) -> Vec<(String, SocketAddr)> {
        self.managers.iter().map(|manager| (manager.node_id.clone(), manager.address)).collect()
    }

    fn find(&self, address: SocketAddr) -> Option<&Manager> {
        self.managers.iter().find(|manager| manager.address == address)
    }
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::Peer;

    use super::*;

    fn peer(addr: &str, weight: i64) -> WeightedPeer {
        WeightedPeer { peer: Some(Peer { node_id: addr.to_owned(), addr: addr.to_owned() }), weight }
    }

    #[test]
    fn choice_follows_weight_and_failures() {
        let mut set = ManagerSet::default();
        assert_eq!(set.choose(0.5), None);
        assert!(set.replace(&[peer("10.0.0.1:2377", 10), peer("10.0.0.2:2377", 10)]));
        let first = "10.0.0.1:2377".parse().unwrap();
        let second = "10.0.0.2:2377".parse().unwrap();
        assert_eq!(set.choose(0.0), Some(first));
        assert_eq!(set.choose(0.49), Some(first));
        assert_eq!(set.choose(0.51), Some(second));
        assert_eq!(set.choose(1.0), Some(second));
        for _ in 0..9 {
            set.observe(first, false);
        }
        assert_eq!(set.choose(0.0), Some(first), "a failed one is still tried");
        assert_eq!(set.choose(0.2), Some(second));
        set.observe(first, true);
        assert_eq!(set.choose(0.49), Some(first));
    }

    #[test]
    fn an_empty_or_unreadable_list_changes_nothing() {
        let mut set = ManagerSet::from_addresses(&["10.0.0.1:2377".parse().unwrap()]);
        assert!(!set.replace(&[]));
        assert!(!set.replace(&[peer("no address", 10)]));
        assert_eq!(set.addresses(), ["10.0.0.1:2377".parse().unwrap()]);
    }
}
