//! The one MTU of a network on all its nodes.
//!
//! What is chosen and carried is the MTU of the data path, before encapsulation: that is what Docker's option
//! means, and Docker's nodes subtract the overhead themselves.

use std::collections::BTreeMap;

use weft_types::{Mtu, Underlay};
use weft_wire::swarmkit::Driver;

use crate::{AllocationError, NodeEngine};

/// Docker's option, in bytes of the data path.
pub const MTU_OPTION: &str = "com.docker.network.driver.mtu";
/// Another spelling that users type; read, never written.
pub const MTU_OPTION_GENERIC: &str = "com.docker.network.mtu";

/// Its presence says that a network is encrypted, as with Docker.
const ENCRYPTED_OPTION: &str = "encrypted";

/// What is known of a node's data path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeMtu {
    /// The node.
    pub node: String,
    /// Docker's nodes do not report; they assume Ethernet's.
    pub engine: NodeEngine,
    /// As reported; none until the first report.
    pub data_path_mtu: Option<Mtu>,
    /// What carries its tunnels.
    pub underlay: Underlay,
}

impl NodeMtu {
    fn known(&self) -> Option<Mtu> {
        match self.engine {
            NodeEngine::Docker => Some(Mtu::ETHERNET),
            NodeEngine::Weft => self.data_path_mtu,
        }
    }
}

/// The MTU that all nodes of a network use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MtuChoice {
    /// Before encapsulation.
    pub data_path: Mtu,
    /// The family with the largest overhead among the nodes.
    pub underlay: Underlay,
}

impl MtuChoice {
    /// For the interfaces in containers: 50 bytes less over IPv4, 70 over IPv6.
    pub fn interface(self) -> Mtu {
        self.data_path.over_vxlan(self.underlay).unwrap_or(Mtu::MIN)
    }

    /// The same on an encrypted network: 92 bytes less over IPv4, 112 over IPv6.
    pub fn encrypted_interface(self) -> Mtu {
        self.data_path.over_encrypted_vxlan(self.underlay).unwrap_or(Mtu::MIN)
    }
}

/// The network's own MTU option, if given.
pub fn mtu_option(options: &BTreeMap<String, String>) -> Result<Option<Mtu>, AllocationError> {
    for option in [MTU_OPTION, MTU_OPTION_GENERIC] {
        if let Some(value) = options.get(option) {
            let mtu = value.parse().ok().and_then(|bytes: u32| Mtu::try_from(bytes).ok());
            // Nothing is left of it for containers.
            let mtu = mtu.filter(|mtu| mtu.over_vxlan(Underlay::V4).is_some());
            return mtu.map(Some).ok_or_else(|| AllocationError::MtuOption { option, value: value.clone() });
        }
    }
    Ok(None)
}

/// The option if given, else the least of what the nodes have; a Docker node counts as 1500.
pub fn choose_mtu(option: Option<Mtu>, nodes: &[NodeMtu]) -> MtuChoice {
    let least = nodes.iter().filter_map(NodeMtu::known).min();
    let over_ipv6 = nodes.iter().any(|node| node.underlay == Underlay::V6);
    MtuChoice {
        data_path: option.or(least).unwrap_or(Mtu::ETHERNET),
        underlay: if over_ipv6 { Underlay::V6 } else { Underlay::V4 },
    }
}

/// The nodes whose reported data path cannot carry full packets of this choice: each is worth a warning.
pub fn too_small(choice: MtuChoice, nodes: &[NodeMtu]) -> impl Iterator<Item = &NodeMtu> {
    nodes.iter().filter(move |node| node.data_path_mtu.is_some_and(|mtu| mtu < choice.data_path))
}

/// Whether frames of the network are encrypted between nodes.
pub fn is_encrypted(driver_state: &Driver) -> bool {
    driver_state.options.contains_key(ENCRYPTED_OPTION)
}

/// Writes the choice where all nodes read it. Docker's default is left unsaid unless the user said it; of an encrypted
/// network it is said what lets Docker's nodes come to the same MTU as Weft's, which take more for encryption.
pub fn carry_mtu(driver_state: &mut Driver, choice: MtuChoice, option: Option<Mtu>) {
    let encrypted = Some(choice.encrypted_interface()).filter(|_| is_encrypted(driver_state));
    let told = match encrypted.and_then(Mtu::dockers_encrypted_path) {
        Some(path) => Some(path),
        None if option.is_none() => Some(choice.data_path).filter(|path| *path != Mtu::ETHERNET),
        None => Some(choice.data_path),
    };
    match told {
        Some(path) => driver_state.options.insert(MTU_OPTION.to_owned(), path.to_string()),
        None => driver_state.options.remove(MTU_OPTION),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mtu(bytes: u32) -> Mtu {
        Mtu::try_from(bytes).unwrap()
    }

    fn node(engine: NodeEngine, data_path_mtu: Option<u32>) -> NodeMtu {
        NodeMtu { node: "n".into(), engine, data_path_mtu: data_path_mtu.map(mtu), underlay: Underlay::V4 }
    }

    #[test]
    fn the_option_wins_then_the_least_report() {
        let nodes = [node(NodeEngine::Weft, Some(9000)), node(NodeEngine::Weft, Some(8000))];
        assert_eq!(choose_mtu(Some(mtu(1200)), &nodes).interface(), mtu(1150));
        assert_eq!(choose_mtu(None, &nodes).interface(), mtu(7950));
        assert_eq!(choose_mtu(None, &[node(NodeEngine::Weft, None)]).interface(), mtu(1450));
    }

    #[test]
    fn a_docker_node_keeps_it_at_ethernets_but_never_raises_it() {
        let docker = node(NodeEngine::Docker, None);
        assert_eq!(
            choose_mtu(None, &[node(NodeEngine::Weft, Some(9000)), docker.clone()]).data_path,
            mtu(1500)
        );
        assert_eq!(choose_mtu(None, &[node(NodeEngine::Weft, Some(1400)), docker]).data_path, mtu(1400));
    }

    #[test]
    fn one_tunnel_over_ipv6_costs_all_nodes_its_overhead() {
        let mut nodes = [node(NodeEngine::Weft, Some(1500)), node(NodeEngine::Weft, Some(1500))];
        nodes[1].underlay = Underlay::V6;
        assert_eq!(choose_mtu(None, &nodes).interface(), mtu(1430));
    }

    #[test]
    fn a_smaller_underlay_than_the_choice_is_told() {
        let nodes = [node(NodeEngine::Weft, Some(1400)), node(NodeEngine::Weft, Some(1500))];
        let choice = choose_mtu(Some(mtu(1500)), &nodes);
        assert_eq!(too_small(choice, &nodes).collect::<Vec<_>>(), [&nodes[0]]);
    }

    #[test]
    fn both_spellings_are_read_and_nonsense_is_refused() {
        let options = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(mtu_option(&options(MTU_OPTION, "1200")), Ok(Some(mtu(1200))));
        assert_eq!(mtu_option(&options(MTU_OPTION_GENERIC, "1300")), Ok(Some(mtu(1300))));
        assert_eq!(mtu_option(&BTreeMap::new()), Ok(None));
        for bad in ["", "x", "-1", "100", "70000"] {
            assert!(mtu_option(&options(MTU_OPTION, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn dockers_default_is_left_unsaid() {
        let mut driver = Driver::default();
        let choice = choose_mtu(None, &[]);
        carry_mtu(&mut driver, choice, None);
        assert!(driver.options.is_empty());
        carry_mtu(&mut driver, choose_mtu(None, &[node(NodeEngine::Weft, Some(1400))]), None);
        assert_eq!(driver.options.get(MTU_OPTION).map(String::as_str), Some("1400"));
        carry_mtu(&mut driver, choice, None);
        assert!(driver.options.is_empty());
    }

    #[test]
    fn dockers_nodes_on_encrypted_networks_are_told_what_makes_them_agree() {
        let mut driver = Driver::default();
        driver.options.insert(ENCRYPTED_OPTION.to_owned(), String::new());
        carry_mtu(&mut driver, choose_mtu(None, &[]), None);
        let told: u32 = driver.options[MTU_OPTION].parse().unwrap();
        assert_eq!((told, (told - 76) / 4 * 4), (1484, 1408));
    }
}
