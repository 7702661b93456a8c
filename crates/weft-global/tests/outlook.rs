//! What a host knows, what it tells its network controller, what it owes to the store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use weft_global::{AddressBook, Document, Duties, EndpointRecord, GRACE, NetworkBook, Outlook, Own, keys};
use weft_network::LocalSwarmEndpoint;
use weft_types::{NetworkId, TaskId};

use common::{addresses, book_with, endpoint, endpoint_id, holder, object, spec, task};

const NODE: &str = "192.0.2.1:2375";
const OTHER: &str = "192.0.2.2:2375";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A store with a network, on which the other host has a container.
struct Scene {
    outlook: Outlook,
    id: NetworkId,
    networks: NetworkBook,
    addresses: AddressBook,
}

impl Scene {
    fn new() -> Self {
        let (networks, id) = book_with(&spec("web", &[]));
        let mut addresses = addresses();
        addresses.claim(&object(&networks, &id), &holder(OTHER, 9), &[], None).unwrap();
        let mut scene = Self { outlook: Outlook::default(), id, networks, addresses };
        scene.outlook.put(keys::NETWORKS, &scene.networks.encode()).unwrap();
        scene.tell_addresses();
        let record = EndpointRecord::of(&endpoint(&scene.id, 9, "10.0.0.2/24"), OTHER, ip("192.0.2.2"));
        scene.outlook.put(&scene.key(), &record.encode()).unwrap();
        scene
    }

    fn key(&self) -> String {
        keys::endpoint(&self.id, &endpoint_id(9))
    }

    fn tell_addresses(&mut self) {
        self.outlook.put(&keys::addresses(&self.id), &self.addresses.encode()).unwrap();
    }

    /// Addresses of endpoints elsewhere, and who may send.
    fn told(&self) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let state = self.outlook.state(ip("192.0.2.1"), &[self.id.clone()].into());
        assert!(!state.is_of_swarm() && state.managed && state.gossip_join.is_empty());
        let endpoints = state.networks[&self.id].endpoints.iter().flat_map(|e| e.addresses.clone()).collect();
        (endpoints, state.members.iter().map(|member| member.data_path).collect())
    }

    fn duties(&self, endpoints: &[LocalSwarmEndpoint], pending: &[TaskId]) -> Duties {
        let pending: BTreeSet<TaskId> = pending.iter().cloned().collect();
        Duties::of(Own { node: NODE, vtep: ip("192.0.2.1"), endpoints, pending: &pending }, &self.outlook)
    }
}

#[test]
fn endpoints_and_hosts_are_told() {
    let mut scene = Scene::new();
    assert_eq!(scene.told(), (vec![ip("10.0.0.2")], vec![ip("192.0.2.1"), ip("192.0.2.2")]));
    scene.outlook.put_node("192.0.2.3:2375", ip("192.0.2.3"));
    assert_eq!(scene.told().1.len(), 3, "it may send before its first endpoint is known");
    scene.outlook.remove_node("192.0.2.3:2375");
    assert_eq!(scene.told().1.len(), 2);
    let ids: BTreeSet<_> = ["192.0.2.1", "192.0.2.2", "fd00::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        .map(|own| scene.outlook.state(ip(own), &BTreeSet::new()).node_id)
        .into();
    assert_eq!(ids.len(), 4, "hosts are told apart");
}

#[test]
fn an_endpoint_whose_address_was_given_back_is_gone_at_once() {
    let (mut scene, now) = (Scene::new(), Instant::now());
    scene.outlook.remove(&scene.key(), now);
    scene.outlook.settle(now);
    assert_eq!(scene.told().0.len(), 1, "nobody knows yet why");
    scene.addresses.release(&[task(9)].into());
    scene.tell_addresses();
    scene.outlook.settle(now);
    assert_eq!(scene.told().0.len(), 0);
    assert_eq!(scene.outlook.next_settle(), None);
}

#[test]
fn an_endpoint_whose_lease_ended_is_forgotten_after_a_while() {
    let (mut scene, now) = (Scene::new(), Instant::now());
    scene.outlook.remove(&scene.key(), now);
    assert_eq!(scene.outlook.next_settle(), Some(now + GRACE));
    scene.outlook.settle(now + GRACE - Duration::from_secs(1));
    assert_eq!(scene.told().0.len(), 1);
    scene.outlook.settle(now + GRACE);
    assert_eq!(scene.told(), (vec![], vec![ip("192.0.2.1")]));
}

#[test]
fn a_store_that_lost_its_data_takes_nothing_away_from_those_who_come_back() {
    let (mut scene, now) = (Scene::new(), Instant::now());
    for key in [keys::NETWORKS.to_owned(), keys::addresses(&scene.id), scene.key()] {
        scene.outlook.remove(&key, now);
    }
    scene.outlook.settle(now);
    assert_eq!(scene.told().0.len(), 1);
    assert!(scene.outlook.networks().is_none());
    assert_eq!(scene.outlook.last_known(&scene.id), scene.networks.get(&scene.id), "it can be put back");
    // This host was quicker than the other to put back what it has; or this is all that it saw of the loss.
    for _ in 0..2 {
        let mut mine = AddressBook::new("second".to_owned());
        mine.put_back(&[ip("10.0.0.3")], &holder(NODE, 1));
        scene.outlook.put(&keys::addresses(&scene.id), &mine.encode()).unwrap();
        scene.outlook.settle(now);
        assert_eq!(scene.told().0.len(), 1);
        scene.tell_addresses();
    }
    let record = EndpointRecord::of(&endpoint(&scene.id, 9, "10.0.0.2/24"), OTHER, ip("192.0.2.2"));
    scene.outlook.put(&scene.key(), &record.encode()).unwrap();
    scene.outlook.settle(now + 2 * GRACE);
    assert_eq!(scene.told().0.len(), 1);
}

#[test]
fn what_is_given_back_before_its_endpoint_goes_is_gone_with_it() {
    let (mut scene, now) = (Scene::new(), Instant::now());
    scene.addresses.release(&[task(9)].into());
    scene.tell_addresses();
    scene.outlook.settle(now);
    assert_eq!(scene.told().0.len(), 1, "its host says that it is there");
    scene.outlook.remove(&scene.key(), now);
    scene.outlook.settle(now);
    assert_eq!(scene.told().0.len(), 0);
}

#[test]
fn a_damaged_document_changes_nothing() {
    let mut scene = Scene::new();
    for key in [keys::NETWORKS.to_owned(), keys::addresses(&scene.id), scene.key()] {
        assert!(scene.outlook.put(&key, b"{\"format\":1").is_err());
    }
    assert_eq!(scene.told().0.len(), 1);
    assert_eq!(scene.outlook.networks(), Some(&scene.networks));
}

#[test]
fn a_host_owes_claims_and_what_it_does_not_have() {
    let mut scene = Scene::new();
    assert_eq!(scene.duties(&[], &[]), Duties::default(), "another host's are not its business");
    let own = endpoint(&scene.id, 1, "10.0.0.3/24");
    let duties = scene.duties(std::slice::from_ref(&own), &[]);
    assert_eq!(duties.missing[&scene.id][&task(1)], [ip("10.0.0.3")]);
    assert!(duties.networks.is_empty() && duties.excess.is_empty());

    scene.addresses.claim(&object(&scene.networks, &scene.id), &holder(NODE, 1), &[], None).unwrap();
    scene.tell_addresses();
    assert_eq!(scene.duties(std::slice::from_ref(&own), &[]), Duties::default());
    assert_eq!(scene.duties(&[], &[task(1)]), Duties::default(), "its container is about to join");
    assert_eq!(scene.duties(&[], &[]).excess[&scene.id], [task(1)].into());

    scene.outlook.remove(keys::NETWORKS, Instant::now());
    assert_eq!(scene.duties(&[own], &[]).networks, [scene.id.clone()].into());
}
