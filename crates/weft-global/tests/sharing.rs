//! Many hosts at one store: whatever the order in which they read and write, what is to be unique is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;
use weft_global::{AddressBook, Document, NetworkBook, Refused};
use weft_types::NetworkId;

use common::{addresses, book, book_with, holder, network_id, object, spec, task};

const HOSTS: usize = 3;

/// One document of a store that takes a write only over the version that was read.
#[derive(Default)]
struct Cell {
    version: u64,
    bytes: Option<Vec<u8>>,
}

impl Cell {
    fn write(&mut self, over: u64, bytes: Vec<u8>) -> bool {
        let taken = self.version == over;
        if taken {
            (self.version, self.bytes) = (over + 1, Some(bytes));
        }
        taken
    }
}

/// What a host does, in two steps: it reads and edits, then it writes. Its answer may get lost.
struct Attempt<R> {
    over: u64,
    bytes: Vec<u8>,
    value: R,
}

/// A network to be made, which wish it is, and the write that is due.
type Adding = (NetworkId, usize, Option<Attempt<()>>);
/// A claim, whether it is to be given back, and the write that is due.
type Claiming = (u8, bool, Option<Attempt<Vec<IpAddr>>>);

fn read<D: Document, R>(
    cell: &Cell,
    fresh: impl Fn() -> D,
    edit: impl FnOnce(&mut D) -> Result<R, Refused>,
) -> Result<Attempt<R>, Refused> {
    let mut document = cell.bytes.as_ref().map_or_else(fresh, |bytes| D::decode(bytes).unwrap());
    let value = edit(&mut document)?;
    Ok(Attempt { over: cell.version, bytes: document.encode(), value })
}

/// Which host goes on, and whether it hears what became of its write.
fn schedule() -> impl Strategy<Value = Vec<(usize, bool)>> {
    proptest::collection::vec((0..HOSTS, prop::bool::weighted(0.8)), 1..120)
}

fn check_networks(book: &NetworkBook) {
    let all: Vec<_> = book.iter().map(|(_, network)| network).collect();
    let names: BTreeSet<&str> = all.iter().map(|network| network.name.as_str()).collect();
    let vnis: Vec<u32> = all.iter().flat_map(|network| network.vnis.iter().map(|vni| vni.get())).collect();
    let subnets: Vec<IpNet> =
        all.iter().flat_map(|network| network.subnets.iter().map(|s| s.subnet)).collect();
    assert_eq!(names.len(), all.len(), "two of one name");
    assert_eq!(vnis.iter().collect::<BTreeSet<_>>().len(), vnis.len(), "two of one identifier");
    assert!(vnis.iter().all(|vni| (256..=4095).contains(vni)), "none of a swarm's: {vnis:?}");
    for (n, one) in subnets.iter().enumerate() {
        assert!(
            subnets[n + 1..].iter().all(|other| !one.contains(other) && !other.contains(one)),
            "{subnets:?}"
        );
    }
}

proptest! {
    #[test]
    fn names_subnets_and_identifiers_are_unique(steps in schedule(), picks in proptest::collection::vec(0..6usize, 60)) {
        let wishes = [
            spec("a", &[]), spec("b", &[]), spec("c", &["10.0.0.0/23"]), spec("a", &["10.3.0.0/16"]), spec("d", &["10.0.1.0/24"]),
            spec("e", &["10.0.0.0/24", "10.77.0.0/24"]),
        ];
        let mut cell = Cell::default();
        let mut pending: [Option<Adding>; HOSTS] = Default::default();
        let mut made = BTreeSet::new();
        let (mut next, mut picks) = (0, picks.into_iter().cycle());
        for (host, hears) in steps {
            let (id, wish, attempt) = pending[host].take().unwrap_or_else(|| {
                next += 1;
                (network_id(next), picks.next().unwrap(), None)
            });
            let Some(attempt) = attempt else {
                let add = |book: &mut NetworkBook| book.add(&id, &wishes[wish], Timestamp::UNIX_EPOCH, &[]);
                if let Ok(attempt) = read(&cell, book, add) {
                    pending[host] = Some((id, wish, Some(attempt)));
                }
                continue;
            };
            let written = cell.write(attempt.over, attempt.bytes);
            if written && hears {
                made.insert(id);
            } else {
                // Refused, or nobody knows: once more from the beginning.
                pending[host] = Some((id, wish, None));
            }
            let book = NetworkBook::decode(cell.bytes.as_ref().unwrap()).unwrap();
            check_networks(&book);
            prop_assert!(made.iter().all(|id| book.get(id).is_some()), "what was promised stands");
        }
    }

    #[test]
    fn an_address_has_one_holder(steps in schedule(), leave in proptest::collection::vec(any::<bool>(), 120)) {
        let (networks, id) = book_with(&spec("small", &["10.9.0.0/28"]));
        let network = object(&networks, &id);
        let mut cell = Cell::default();
        // Of each host: what it is about to do for which claim, and the claims that it was granted.
        let mut pending: [Option<Claiming>; HOSTS] = Default::default();
        let mut granted: BTreeMap<u8, (usize, Vec<IpAddr>)> = BTreeMap::new();
        let mut next = 0;
        for ((host, hears), wants_to_leave) in steps.into_iter().zip(leave) {
            let node = format!("10.0.0.{host}:2375");
            let mine = granted.iter().find(|(_, (of, _))| *of == host).map(|(number, _)| *number);
            let (number, is_release, attempt) = pending[host].take().unwrap_or_else(|| match mine {
                Some(number) if wants_to_leave => {
                    // It is given up before the store hears of it.
                    granted.remove(&number);
                    (number, true, None)
                }
                _ => {
                    next += 1;
                    (next, false, None)
                }
            });
            let Some(attempt) = attempt else {
                let edit = |book: &mut AddressBook| {
                    if is_release {
                        book.release(&[task(number)].into());
                        return Ok(Vec::new());
                    }
                    let found = book.claim(&network, &holder(&node, number), &[], None)?;
                    Ok(found.iter().map(|address| address.ip()).collect())
                };
                if let Ok(attempt) = read(&cell, addresses, edit) {
                    pending[host] = Some((number, is_release, Some(attempt)));
                }
                continue;
            };
            let value = attempt.value;
            if !(cell.write(attempt.over, attempt.bytes) && hears) {
                pending[host] = Some((number, is_release, None));
            } else if !is_release {
                granted.insert(number, (host, value));
            }
            let all: Vec<IpAddr> = granted.values().flat_map(|(_, ips)| ips.iter().copied()).collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{:?}", granted);
            let book = AddressBook::decode(cell.bytes.as_ref().unwrap()).unwrap();
            prop_assert!(granted.keys().all(|number| book.has(&task(*number))), "what was granted is held");
        }
    }
}

fn ips(outcome: Result<Vec<weft_types::EndpointAddress>, Refused>) -> Vec<String> {
    outcome.unwrap().iter().map(|address| address.ip().to_string()).collect()
}

#[test]
fn addresses_are_given_in_order_and_rest_when_they_are_given_back() {
    let (networks, id) = book_with(&spec("small", &["10.9.0.0/29"]));
    let (network, mut book) = (object(&networks, &id), addresses());
    let claim = |book: &mut AddressBook, number| ips(book.claim(&network, &holder("a:1", number), &[], None));
    assert_eq!(claim(&mut book, 1), ["10.9.0.2"], "the first is the router's");
    assert_eq!(claim(&mut book, 1), ["10.9.0.2"], "asked again, the same");
    assert_eq!(claim(&mut book, 2), ["10.9.0.3"]);
    book.release(&[task(1), task(2)].into());
    assert_eq!(
        (claim(&mut book, 3), claim(&mut book, 4)),
        (vec!["10.9.0.4".into()], vec!["10.9.0.5".into()])
    );
    assert_eq!(
        (claim(&mut book, 5), claim(&mut book, 6)),
        (vec!["10.9.0.6".into()], vec!["10.9.0.2".into()])
    );
}

#[test]
fn what_the_dead_hold_is_given_only_when_nothing_else_is_left() {
    let (networks, id) = book_with(&spec("small", &["10.9.0.0/29"]));
    let (network, mut book) = (object(&networks, &id), addresses());
    let living: BTreeSet<String> = ["a:1".to_owned()].into();
    let mut claim =
        |node, number, wanted: &[IpAddr], living| book.claim(&network, &holder(node, number), wanted, living);
    assert_eq!(ips(claim("dead:1", 1, &[], None)), ["10.9.0.2"]);
    for number in 2..6 {
        assert_eq!(ips(claim("a:1", number, &[], Some(&living))), [format!("10.9.0.{}", number + 1)]);
    }
    assert!(matches!(claim("a:1", 6, &[], None), Err(Refused::Allocation(_))), "nobody knows who lives");
    assert_eq!(ips(claim("a:1", 6, &[], Some(&living))), ["10.9.0.2"]);
    let full = claim("a:1", 7, &[], Some(&living)).unwrap_err().to_string();
    assert!(full.contains("no available IPv4 addresses on this network's address pools: small"), "{full}");
    let taken = claim("a:1", 7, &["10.9.0.2".parse().unwrap()], Some(&living)).unwrap_err().to_string();
    assert_eq!(taken, "Address already in use: 10.9.0.2 on network small");
    assert!(!book.has(&task(1)), "the dead have lost it");
}

#[test]
fn a_network_is_closed_when_no_living_host_has_a_place_there() {
    let (networks, id) = book_with(&spec("small", &[]));
    let (network, mut book) = (object(&networks, &id), addresses());
    book.claim(&network, &holder("a:1", 1), &[], None).unwrap();
    let users = book.close(&["a:1".to_owned(), "b:1".to_owned()].into()).unwrap_err();
    assert_eq!(users, [("10.0.0.2".parse().unwrap(), holder("a:1", 1))]);
    book.close(&["b:1".to_owned()].into()).unwrap();
    let refused = book.claim(&network, &holder("b:1", 2), &[], None).unwrap_err();
    assert_eq!(refused, Refused::Removed("small".to_owned()));
    assert!(!book.put_back(&["10.0.0.2".parse().unwrap()], &holder("a:1", 1)), "whoever comes back is late");
}

#[test]
fn what_was_lost_is_put_back_unless_another_has_it() {
    let (kept, id) = book_with(&spec("kept", &[]));
    let network = kept.get(&id).unwrap().clone();
    let mut book = book();
    book.put_back(&id, &network).unwrap();
    book.put_back(&id, &network).unwrap();
    assert_eq!(book, kept);
    // The same subnet and identifier under another name.
    let mut other = common::book();
    other.add(&network_id(2), &spec("new", &[]), Timestamp::UNIX_EPOCH, &[]).unwrap();
    assert!(other.put_back(&id, &network).unwrap_err().to_string().contains("Pool overlaps"));
    let renamed = weft_global::GlobalNetwork { name: "new".to_owned(), ..network };
    assert_eq!(other.put_back(&id, &renamed), Err(Refused::NameTaken("new".to_owned())));
    let mut addresses = addresses();
    let ip = ["10.0.0.9".parse().unwrap()];
    assert!(addresses.put_back(&ip, &holder("a:1", 1)) && addresses.put_back(&ip, &holder("a:1", 1)));
    assert!(!addresses.put_back(&ip, &holder("b:1", 2)));
}

#[test]
fn networks_are_found_as_docker_finds_them() {
    let mut book = book();
    let ids = [network_id(0xa << 28 | 1), network_id(0xb)];
    for (id, name) in ids.iter().zip(["web", "db"]) {
        book.add(id, &spec(name, &[]), Timestamp::UNIX_EPOCH, &["10.0.0.0/23".parse().unwrap()]).unwrap();
    }
    assert_eq!(book.find("web").unwrap().0, &ids[0]);
    assert_eq!(book.find(ids[1].as_str()).unwrap().1.name, "db");
    assert_eq!(book.find("00"), Err(Refused::Ambiguous("00".to_owned(), 2)));
    assert_eq!(book.find("nosuch"), Err(Refused::NotFound("nosuch".to_owned())));
    let first = book.get(&ids[0]).unwrap().subnets[0].subnet.to_string();
    assert_eq!(first, "10.0.2.0/24", "what is near this host is left out");
}

#[test]
fn what_this_mode_does_not_have_is_refused() {
    let mut book = book();
    let mut wish = spec("n", &[]);
    wish.driver_config.as_mut().unwrap().options.insert("encrypted".to_owned(), String::new());
    assert_eq!(book.add(&network_id(1), &wish, Timestamp::UNIX_EPOCH, &[]), Err(Refused::Encrypted));
    let wish = weft_wire::swarmkit::NetworkSpec { ingress: true, ..spec("n", &[]) };
    assert_eq!(book.add(&network_id(1), &wish, Timestamp::UNIX_EPOCH, &[]), Err(Refused::Ingress));
}
