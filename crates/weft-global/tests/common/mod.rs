//! Networks, containers and claims by numbers.
#![allow(dead_code, reason = "each test uses a part")]

use jiff::Timestamp;
use weft_global::{AddressBook, Holder, NetworkBook};
use weft_network::LocalSwarmEndpoint;
use weft_types::{EndpointAddress, EndpointId, MacAddr, NetworkId, TaskId};
use weft_wire::swarmkit::{Annotations, Driver, IpamConfig, IpamOptions, Network, NetworkSpec};

pub(crate) fn network_id(number: u32) -> NetworkId {
    format!("{number:064x}").parse().unwrap()
}

pub(crate) fn task(number: u8) -> TaskId {
    format!("{number:025}").parse().unwrap()
}

pub(crate) fn holder(node: &str, number: u8) -> Holder {
    Holder { node: node.to_owned(), attachment: task(number) }
}

pub(crate) fn spec(name: &str, subnets: &[&str]) -> NetworkSpec {
    let config = |subnet: &&str| IpamConfig { subnet: (*subnet).to_owned(), ..IpamConfig::default() };
    NetworkSpec {
        annotations: Some(Annotations { name: name.to_owned(), ..Annotations::default() }),
        driver_config: Some(Driver { name: "overlay".to_owned(), ..Driver::default() }),
        ipam: Some(IpamOptions { driver: None, configs: subnets.iter().map(config).collect() }),
        ..NetworkSpec::default()
    }
}

pub(crate) fn book() -> NetworkBook {
    NetworkBook::new("0123456789012345678901234".to_owned())
}

pub(crate) fn addresses() -> AddressBook {
    AddressBook::new("first".to_owned())
}

pub(crate) fn book_with(spec: &NetworkSpec) -> (NetworkBook, NetworkId) {
    let (mut book, id) = (book(), network_id(1));
    book.add(&id, spec, Timestamp::UNIX_EPOCH, &[]).unwrap();
    (book, id)
}

pub(crate) fn object(book: &NetworkBook, id: &NetworkId) -> Network {
    book.get(id).unwrap().to_object(id)
}

/// An endpoint of this host whose numbers are all `number`.
pub(crate) fn endpoint(network: &NetworkId, number: u8, address: &str) -> LocalSwarmEndpoint {
    let address: EndpointAddress = address.parse().unwrap();
    LocalSwarmEndpoint {
        id: endpoint_id(number),
        network: network.clone(),
        attachment: task(number),
        container: format!("{number:064x}").parse().unwrap(),
        address: Some(address),
        address6: None,
        mac: MacAddr::from_ip(address.ip()),
        name: format!("c{number}"),
        aliases: Vec::new(),
    }
}

pub(crate) fn endpoint_id(number: u8) -> EndpointId {
    format!("{number:064x}").parse().unwrap()
}
