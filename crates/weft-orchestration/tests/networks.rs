//! What networks get: Docker's order of subnets and identifiers, and refusals that say what is in the way.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::BTreeMap;

use weft_orchestration::{
    AllocationError, Allocator, AllocatorConfig, Claim, InUse, NetworkAllocation, NodeEngine, Taken,
    VXLAN_ID_LIST_OPTION, network_vnis, subnet_clash,
};
use weft_types::{Classified, ErrorKind, Vni};
use weft_wire::swarmkit::{Annotations, Cluster, Driver, IpamConfig, IpamOptions, Network, NetworkSpec};

const CLUSTER: &str = "ujoueewgehgohd8dfa0hy7254";

struct Swarm {
    allocator: Allocator,
    taken: InUse,
    networks: BTreeMap<String, Network>,
}

impl Swarm {
    fn new(pools: &[&str], subnet_size: u32) -> Self {
        let cluster = Cluster {
            id: CLUSTER.into(),
            default_address_pool: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            subnet_size,
            ..Cluster::default()
        };
        let config = AllocatorConfig::of_cluster(&cluster).unwrap();
        let taken = InUse::default();
        Self { allocator: Allocator::rebuild(config, [], &taken), taken, networks: BTreeMap::new() }
    }

    fn create(&mut self, id: &str, spec: NetworkSpec) -> Result<NetworkAllocation, AllocationError> {
        let allocation = self.allocator.network(id, &spec, &self.taken)?;
        for claim in &allocation.claims {
            assert!(self.taken.insert(claim.clone(), id), "{claim:?} was taken");
        }
        let mut network = Network { id: id.into(), spec: Some(spec), ..Network::default() };
        allocation.write_to(&mut network);
        self.networks.insert(id.to_owned(), network);
        Ok(allocation)
    }

    fn remove(&mut self, id: &str, allocation: &NetworkAllocation) {
        for claim in &allocation.claims {
            assert!(self.taken.remove(claim));
        }
        self.networks.remove(id);
        self.allocator.forget_network(id);
    }

    fn address(&mut self, id: &str, wanted: &[&str]) -> Result<Vec<String>, AllocationError> {
        let wanted: Vec<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
        let allocation = self.allocator.addresses(&self.networks[id], &wanted, &self.taken)?;
        for claim in &allocation.claims {
            assert!(self.taken.insert(claim.clone(), "task"), "{claim:?} was taken");
        }
        Ok(allocation.to_texts())
    }

    fn free(&mut self, id: &str, address: &str) {
        let address = address.split('/').next().unwrap().parse().unwrap();
        assert!(self.taken.remove(&Claim::Address { network: id.into(), address }));
        self.allocator.released(id, address);
    }
}

fn spec(name: &str, configs: Vec<IpamConfig>) -> NetworkSpec {
    NetworkSpec {
        annotations: Some(Annotations { name: name.into(), ..Annotations::default() }),
        ipam: Some(IpamOptions { driver: None, configs }),
        ..NetworkSpec::default()
    }
}

fn subnet(subnet: &str) -> IpamConfig {
    IpamConfig { subnet: subnet.into(), ..IpamConfig::default() }
}

fn with_vnis(name: &str, list: &str) -> NetworkSpec {
    let options = BTreeMap::from([(VXLAN_ID_LIST_OPTION.to_owned(), list.to_owned())]);
    NetworkSpec { driver_config: Some(Driver { name: "overlay".into(), options }), ..spec(name, vec![]) }
}

fn list(allocation: &NetworkAllocation) -> &str {
    &allocation.driver_state.options[VXLAN_ID_LIST_OPTION]
}

fn subnets(allocation: &NetworkAllocation) -> Vec<(&str, &str)> {
    allocation.ipam.configs.iter().map(|config| (config.subnet.as_str(), config.gateway.as_str())).collect()
}

/// The sequence that a dockerd showed: ingress first, then each overlay the next subnet and identifier.
#[test]
fn subnets_and_identifiers_go_upward_from_dockers_first() {
    let mut swarm = Swarm::new(&[], 0);
    let ingress = swarm.create("ingress", spec("ingress", vec![])).unwrap();
    assert_eq!((subnets(&ingress), list(&ingress)), (vec![("10.0.0.0/24", "10.0.0.1")], "4096"));
    let web = swarm.create("web", spec("web", vec![])).unwrap();
    assert_eq!((subnets(&web), list(&web)), (vec![("10.0.1.0/24", "10.0.1.1")], "4097"));
    assert_eq!(
        (web.driver_state.name.as_str(), web.ipam.driver.unwrap().name.as_str()),
        ("overlay", "default")
    );
    assert_eq!(network_vnis(&swarm.networks["web"]), Ok(vec![Vni::try_from(4097).unwrap()]));
    let two = swarm.create("two", spec("two", vec![subnet("10.53.0.0/24"), subnet("10.54.0.0/24")])).unwrap();
    assert_eq!(list(&two), "4098,4099");
}

/// "A freed subnet is reused at once, a VNI is not."
#[test]
fn a_freed_subnet_comes_back_at_once_and_an_identifier_last() {
    let mut swarm = Swarm::new(&[], 0);
    let first = swarm.create("a", spec("a", vec![])).unwrap();
    swarm.remove("a", &first);
    let second = swarm.create("b", spec("b", vec![])).unwrap();
    assert_eq!((subnets(&second)[0].0, list(&second)), ("10.0.0.0/24", "4097"));
    // At the end of the space it begins again, at the one that is free.
    let mut swarm = Swarm::new(&[], 0);
    let last = swarm.create("last", with_vnis("last", "16777215")).unwrap();
    swarm.allocator = rebuilt(&swarm);
    assert_eq!(list(&swarm.create("c", spec("c", vec![])).unwrap()), "4096");
    assert_eq!(list(&last), "16777215");
}

fn rebuilt(swarm: &Swarm) -> Allocator {
    let config = AllocatorConfig::of_cluster(&Cluster { id: CLUSTER.into(), ..Cluster::default() }).unwrap();
    Allocator::rebuild(config, swarm.networks.values(), &swarm.taken)
}

#[test]
fn the_networks_own_identifiers_are_honoured_and_collisions_refused() {
    let mut swarm = Swarm::new(&[], 0);
    assert_eq!(list(&swarm.create("a", with_vnis("a", "5000")).unwrap()), "5000");
    assert_eq!(list(&swarm.create("low", with_vnis("low", "100")).unwrap()), "100");
    assert_eq!(swarm.create("b", with_vnis("b", "5000")), Err(AllocationError::VniTaken(5000)));
    assert_eq!(swarm.create("b", with_vnis("b", "6000,6000")), Err(AllocationError::VniTaken(6000)));
    assert!(matches!(swarm.create("b", with_vnis("b", "16777216")), Err(AllocationError::VniRange(_))));
    assert!(matches!(swarm.create("b", with_vnis("b", "x")), Err(AllocationError::VniSyntax(_))));
}

#[test]
fn overlaps_are_refused_with_what_is_in_the_way() {
    let mut swarm = Swarm::new(&[], 0);
    swarm.create("a", spec("a", vec![])).unwrap();
    for wanted in ["10.0.0.0/24", "10.0.0.0/8", "10.0.0.128/25"] {
        let error = swarm.create("b", spec("b", vec![subnet(wanted)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        let text = error.to_string();
        assert!(
            text.starts_with("invalid pool request: Pool overlaps with other one on this address space"),
            "{text}"
        );
        assert!(text.contains("10.0.0.0/24 of network a"), "{text}");
    }
    let twice = spec("b", vec![subnet("10.60.0.0/24"), subnet("10.60.0.0/16")]);
    assert!(matches!(swarm.create("b", twice), Err(AllocationError::Overlap { holder: None, .. })));
    // Nothing stuck from the refused ones.
    assert_eq!(list(&swarm.create("b", spec("b", vec![])).unwrap()), "4097");
}

#[test]
fn an_exhausted_pool_says_which_network_and_how_full() {
    let mut swarm = Swarm::new(&["10.97.0.0/28"], 29);
    swarm.create("a", spec("a", vec![])).unwrap();
    swarm.create("b", spec("b", vec![])).unwrap();
    let error = swarm.create("c", spec("web", vec![])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not find an available subnet for network web: all 2 subnets of size /29 in the default address \
         pools (10.97.0.0/28) are in use"
    );
}

#[test]
fn ipv6_subnets_are_the_users_or_unique_local() {
    let mut swarm = Swarm::new(&[], 0);
    let ipv6 = |spec: NetworkSpec| NetworkSpec { ipv6_enabled: true, ..spec };
    let given =
        swarm.create("a", ipv6(spec("a", vec![subnet("10.52.0.0/24"), subnet("fd00:52::/64")]))).unwrap();
    assert_eq!(subnets(&given), [("10.52.0.0/24", "10.52.0.1"), ("fd00:52::/64", "fd00:52::1")]);
    assert_eq!(list(&given), "4096", "one identifier per IPv4 subnet");
    assert_eq!(swarm.address("a", &[]).unwrap(), ["10.52.0.2/24", "fd00:52::2/64"]);

    let automatic = swarm.create("b", ipv6(spec("b", vec![]))).unwrap();
    let [v4, (ula, gateway)] = subnets(&automatic)[..] else { panic!() };
    assert_eq!(v4, ("10.0.0.0/24", "10.0.0.1"));
    assert!(ula.starts_with("fd") && ula.ends_with("::/64"), "{ula}");
    assert!(gateway.ends_with("::1"), "{gateway}");
    let (ula, other) = (ula.to_owned(), swarm.create("c", ipv6(spec("c", vec![]))).unwrap());
    assert_ne!(subnets(&other)[1].0, ula);

    let only_v6 = swarm.create("d", ipv6(spec("d", vec![subnet("fd00:53::/64")]))).unwrap();
    assert_eq!(subnets(&only_v6).len(), 2, "Docker's nodes need an IPv4 subnet for the identifier");
}

#[test]
fn addresses_are_serial_and_wanted_ones_are_checked() {
    let mut swarm = Swarm::new(&[], 0);
    swarm.create("n", spec("n", vec![])).unwrap();
    assert_eq!(swarm.address("n", &[]).unwrap(), ["10.0.0.2/24"]);
    assert_eq!(swarm.address("n", &["10.0.0.50"]).unwrap(), ["10.0.0.50/24"]);
    assert_eq!(swarm.address("n", &["10.0.0.51/24"]).unwrap(), ["10.0.0.51/24"]);
    assert_eq!(swarm.address("n", &[]).unwrap(), ["10.0.0.3/24"]);
    for (wanted, text) in [
        ("10.0.0.50", "Address already in use: 10.0.0.50 on network n"),
        ("10.0.0.1", "Address already in use: 10.0.0.1 on network n"),
        ("10.0.1.9", "no configured subnet or ip-range contain the IP address 10.0.1.9"),
        ("10.0.0.255", "no configured subnet or ip-range contain the IP address 10.0.0.255"),
        ("fd00::1", "no configured subnet or ip-range contain the IP address fd00::1"),
        ("300.1.1.1", "invalid IP address: 300.1.1.1"),
    ] {
        assert_eq!(swarm.address("n", &[wanted]).unwrap_err().to_string(), text);
    }
}

#[test]
fn range_gateway_and_reserved_addresses_are_respected() {
    let mut swarm = Swarm::new(&[], 0);
    let config = IpamConfig {
        range: "10.50.0.128/30".into(),
        gateway: "10.50.0.9".into(),
        reserved: BTreeMap::from([("h".into(), "10.50.0.129".into())]),
        ..subnet("10.50.0.0/24")
    };
    swarm.create("n", spec("n", vec![config])).unwrap();
    for last in [128, 130, 131] {
        assert_eq!(swarm.address("n", &[]).unwrap(), [format!("10.50.0.{last}/24")]);
    }
    assert_eq!(
        swarm.address("n", &[]).unwrap_err().to_string(),
        "no available IPv4 addresses on this network's address pools: n (n): all 3 addresses of 10.50.0.128/30 \
         are in use"
    );
    assert!(swarm.address("n", &["10.50.0.20"]).is_err(), "outside the range");
    assert!(swarm.address("n", &["10.50.0.129"]).is_err(), "reserved");
}

#[test]
fn a_freed_address_rests_until_all_others_were_given() {
    let mut swarm = Swarm::new(&[], 0);
    swarm.create("n", spec("n", vec![subnet("10.9.0.0/29")])).unwrap();
    assert_eq!(swarm.address("n", &[]).unwrap(), ["10.9.0.2/29"]);
    assert_eq!(swarm.address("n", &[]).unwrap(), ["10.9.0.3/29"]);
    swarm.free("n", "10.9.0.3/29");
    swarm.free("n", "10.9.0.2/29");
    for expected in [4, 5, 6, 3, 2] {
        assert_eq!(swarm.address("n", &[]).unwrap(), [format!("10.9.0.{expected}/29")]);
    }
    assert!(swarm.address("n", &[]).is_err());
    swarm.free("n", "10.9.0.5/29");
    assert_eq!(swarm.address("n", &[]).unwrap(), ["10.9.0.5/29"], "rather at once than not at all");
}

/// A new leader goes on behind the highest address and identifier in use.
#[test]
fn a_new_leader_goes_on_behind_what_is_taken() {
    let mut swarm = Swarm::new(&[], 0);
    swarm.create("n", spec("n", vec![])).unwrap();
    for _ in 0..5 {
        swarm.address("n", &[]).unwrap();
    }
    swarm.free("n", "10.0.0.3");
    swarm.allocator = rebuilt(&swarm);
    assert_eq!(swarm.address("n", &[]).unwrap(), ["10.0.0.7/24"]);
    assert_eq!(list(&swarm.create("m", spec("m", vec![])).unwrap()), "4097");
}

#[test]
fn dockers_nodes_need_addresses_of_their_own_and_ours_only_on_the_ingress_network_beside_them() {
    let mut swarm = Swarm::new(&[], 0);
    swarm.create("n", spec("n", vec![])).unwrap();
    swarm.create("i", NetworkSpec { ingress: true, ..spec("i", vec![]) }).unwrap();
    let (network, ingress) = (&swarm.networks["n"], &swarm.networks["i"]);
    for beside_docker in [false, true] {
        assert!(!NodeEngine::Weft.balances_from(network, beside_docker));
        assert_eq!(NodeEngine::Weft.balances_from(ingress, beside_docker), beside_docker);
    }
    assert!(
        NodeEngine::Docker.balances_from(network, true) && NodeEngine::Docker.balances_from(ingress, true)
    );
}

#[test]
fn several_subnets_are_filled_one_after_the_other() {
    let mut swarm = Swarm::new(&[], 0);
    swarm.create("n", spec("n", vec![subnet("10.1.0.0/30"), subnet("10.2.0.0/30")])).unwrap();
    assert_eq!(swarm.address("n", &[]).unwrap(), ["10.1.0.2/30"]);
    assert_eq!(swarm.address("n", &[]).unwrap(), ["10.2.0.2/30"]);
    let full = swarm.address("n", &[]).unwrap_err().to_string();
    assert!(full.ends_with("all 2 addresses of 10.1.0.0/30, 10.2.0.0/30 are in use"), "{full}");
}

#[test]
fn a_subnet_without_room_a_foreign_driver_and_a_bad_mtu_are_refused() {
    let mut swarm = Swarm::new(&[], 0);
    let tiny = swarm.create("n", spec("n", vec![subnet("10.1.0.0/32")])).unwrap_err();
    assert!(matches!(tiny, AllocationError::SubnetTooSmall { .. }), "{tiny}");
    let mut macvlan = spec("n", vec![]);
    macvlan.driver_config = Some(Driver { name: "nosuch".into(), ..Driver::default() });
    assert_eq!(swarm.create("n", macvlan).unwrap_err().kind(), ErrorKind::NotFound);
    let mut mtu = spec("n", vec![]);
    mtu.driver_config = Some(Driver {
        name: "overlay".into(),
        options: BTreeMap::from([("com.docker.network.driver.mtu".into(), "12x".into())]),
    });
    assert_eq!(swarm.create("n", mtu).unwrap_err().kind(), ErrorKind::InvalidParameter);
    assert_eq!(swarm.taken.highest_vni(), None, "refusals claim nothing");
}

#[test]
fn pools_step_over_what_nodes_route_elsewhere() {
    let mut swarm = Swarm::new(&[], 0);
    for of_node in ["10.0.0.0/23", "10.0.3.7/32", "192.168.0.0/16"] {
        swarm.taken.insert_subnet_of_node(of_node.parse().unwrap());
    }
    for (name, expected) in [("a", "10.0.2.0/24"), ("b", "10.0.4.0/24")] {
        assert_eq!(subnets(&swarm.create(name, spec(name, vec![])).unwrap())[0].0, expected);
    }
    // What the user wants he gets, and is warned; so it is when a node routes a whole pool.
    let wanted = swarm.create("c", spec("c", vec![subnet("10.0.0.0/24")])).unwrap();
    assert_eq!(subnets(&wanted)[0].0, "10.0.0.0/24");
    let of_node = ["192.168.0.0/16".parse().unwrap(), "10.0.0.0/23".parse().unwrap()];
    let clash =
        subnet_clash(&swarm.networks["c"], &of_node).map(|(own, other)| (own.to_string(), other.to_string()));
    assert_eq!(clash, Some(("10.0.0.0/24".into(), "10.0.0.0/23".into())));
    assert_eq!(subnet_clash(&swarm.networks["a"], &of_node), None);
    swarm.taken.insert_subnet_of_node("10.0.0.0/8".parse().unwrap());
    assert_eq!(subnets(&swarm.create("d", spec("d", vec![])).unwrap())[0].0, "10.0.1.0/24");
}

/// Each node makes such a network for itself.
#[test]
fn networks_of_the_nodes_own_drivers_take_nothing() {
    let mut swarm = Swarm::new(&[], 0);
    let mut macvlan = spec("m", vec![]);
    macvlan.driver_config = Some(Driver { name: "macvlan".into(), ..Driver::default() });
    let allocation = swarm.create("m", macvlan).unwrap();
    assert_eq!((allocation.driver_state.name.as_str(), allocation.claims.len()), ("macvlan", 0));
    assert!(allocation.driver_state.options.is_empty() && allocation.ipam.configs.is_empty());
}
