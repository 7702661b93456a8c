use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{HEADER_LEN, NEXT_UDP, spi_of};

/// What daemons logged of themselves: source, destination, tag, SPI.
const SPIS: [(&str, &str, u32, u32); 6] = [
    (A, B, 13361, 0x3a69_7ac3),
    (B, A, 13361, 0x4e11_c3fb),
    (A, B, 13362, 0x3611_6946),
    (B, A, 13362, 0x73ac_15fe),
    (A, B, 13363, 0xe7fa_2b9d),
    (B, A, 13363, 0xdf88_8a95),
];
const A: &str = "10.96.0.1";
const B: &str = "10.96.0.2";
const FIRST_IV: u64 = u64::MAX - 3;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(time: u64) -> ManagerKey {
    ManagerKey::new(time, vec![time as u8; 16])
}

fn keys(first: u64) -> Vec<ManagerKey> {
    (first..first + 3).map(key).collect()
}

/// A node and what its driver has.
struct Node {
    now: Duration,
    peer: DockerPeer,
    accepted: HashMap<u32, Arc<Inbound>>,
    sealer: Option<Arc<Sealer>>,
    /// How often `first_iv` was asked.
    drawn: u64,
}

impl Node {
    fn new(own: &str, remote: &str) -> Self {
        let peer = DockerPeer::new(ip(own), ip(remote));
        Self { now: Duration::from_secs(100), peer, accepted: HashMap::new(), sealer: None, drawn: 0 }
    }

    fn set_keys(&mut self, keys: &[ManagerKey]) -> Vec<&'static str> {
        let mut out = Vec::new();
        let mut first_iv = || {
            self.drawn += 1;
            FIRST_IV
        };
        self.peer.set_keys(self.now, keys, &mut first_iv, &mut out);
        self.carry_out(out)
    }

    fn pass(&mut self, seconds: u64) -> Vec<&'static str> {
        self.now += Duration::from_secs(seconds);
        let mut out = Vec::new();
        self.peer.tick(self.now, &mut out);
        self.carry_out(out)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<&'static str> {
        let names = effects.into_iter().map(|effect| match effect {
            Effect::Send(_) | Effect::Prove(_) => panic!("nothing is agreed on the wire"),
            Effect::Accept(inbound) => {
                self.accepted.insert(inbound.spi(), inbound);
                "accept"
            }
            Effect::Forget(spi) => {
                assert!(self.accepted.remove(&spi).is_some(), "{spi:x} was not accepted");
                "forget"
            }
            Effect::Use(sealer) => {
                self.sealer = sealer;
                "use"
            }
        });
        names.collect()
    }

    fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN];
        packet.extend([9; 100]);
        self.sealer.as_ref().unwrap().seal(&mut packet, 0, NEXT_UDP).unwrap();
        packet
    }

    fn takes(&self, mut packet: Vec<u8>) -> bool {
        let Some(inbound) = spi_of(&packet).and_then(|spi| self.accepted.get(&spi)) else { return false };
        let opened = inbound.opener().open(&mut packet).is_ok();
        if opened {
            inbound.note_heard(self.now);
        }
        opened
    }
}

fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(A, B), Node::new(B, A));
    a.set_keys(&keys(1));
    b.set_keys(&keys(1));
    (a, b)
}

#[test]
fn spis_are_those_of_the_daemons() {
    for (from, to, tag, expected) in SPIS {
        assert_eq!(spi(ip(from), ip(to), tag), expected, "{from} {to} {tag}");
    }
}

#[test]
fn the_key_is_laid_out_as_the_daemons_do() {
    let secret = hex::decode("006a0615fe2ca2bfab2c3ee90bc187c2").unwrap();
    let traffic = traffic_key(&ManagerKey::new(13362, secret), 0x3611_6946).unwrap();
    assert_eq!(hex::encode(traffic.0), "006a0615fe2ca2bfab2c3ee90bc187c236116946");
}

#[test]
fn what_is_sent_by_and_taken_by_is_as_the_daemons_have_it() {
    let mut node = Node::new(A, B);
    let keys: Vec<_> = (13361..=13363).rev().map(key).collect();
    assert_eq!(node.set_keys(&keys), ["accept", "accept", "accept", "use"]);
    assert_eq!(node.sealer.as_ref().unwrap().spi(), 0x3611_6946);
    let mut accepted: Vec<_> = node.accepted.keys().copied().collect();
    accepted.sort_unstable();
    assert_eq!(accepted, [0x4e11_c3fb, 0x73ac_15fe, 0xdf88_8a95]);
    assert_eq!(node.peer.view(node.now).tag, Some(13362));
}

#[test]
fn keys_that_stay_are_left_alone() {
    let (mut a, _) = pair();
    let (sealer, inbound) = (a.sealer.clone().unwrap(), a.accepted.clone());
    for _ in 0..3 {
        assert!(a.set_keys(&keys(1)).is_empty() && a.pass(60).is_empty());
    }
    assert!(Arc::ptr_eq(&sealer, a.sealer.as_ref().unwrap()));
    assert!(inbound.iter().all(|(spi, inbound)| Arc::ptr_eq(inbound, &a.accepted[spi])));
    assert_eq!(a.drawn, 1);
}

#[test]
fn a_rotation_makes_before_it_breaks() {
    let (mut a, _) = pair();
    assert_eq!(a.set_keys(&keys(2)), ["accept", "use"]);
    assert_eq!(a.accepted.len(), 4);
    assert!(a.pass(29).is_empty());
    assert_eq!(a.pass(1), ["forget"]);
    assert_eq!(a.accepted.len(), 3);
    assert!(a.pass(60).is_empty());
}

#[test]
fn a_rotation_loses_nothing_whoever_hears_of_it_first() {
    let (mut a, mut b) = pair();
    for first in 2..40 {
        let before = (a.packet(), b.packet());
        a.set_keys(&keys(first));
        assert!(a.takes(b.packet()) && b.takes(a.packet()));
        b.set_keys(&keys(first));
        assert!(a.takes(b.packet()) && b.takes(a.packet()));
        assert!(a.takes(before.1) && b.takes(before.0), "sealed before, opened after");
        a.pass(31);
        b.pass(31);
        assert_eq!((a.accepted.len(), b.accepted.len()), (3, 3));
    }
}

#[test]
fn a_key_that_comes_back_goes_on_where_it_was() {
    let (mut a, mut b) = pair();
    let first = a.packet();
    a.set_keys(&keys(10));
    a.pass(31);
    a.peer.end(&mut Vec::new());
    a.accepted.clear();
    assert_eq!(a.set_keys(&keys(1)), ["accept", "accept", "accept", "use"]);
    let again = a.packet();
    assert_eq!((&first[4..8], &again[4..8]), (&[0, 0, 0, 1][..], &[0, 0, 0, 2][..]));
    assert_ne!(first[8..16], again[8..16], "no initialisation vector comes twice");
    assert!(b.takes(first) && b.takes(again));
    // And one that is taken back for a moment only is the same all the time.
    let inbound = b.accepted.clone();
    assert_eq!(b.set_keys(&keys(2)), ["accept", "use"]);
    assert_eq!(b.set_keys(&keys(1)), ["use"]);
    assert_eq!(b.pass(31), ["forget"]);
    assert!(inbound.iter().all(|(spi, inbound)| Arc::ptr_eq(inbound, &b.accepted[spi])));
}

#[test]
fn another_key_under_the_same_tag_takes_its_place() {
    let (mut a, _) = pair();
    let mut others = keys(1);
    others[1] = ManagerKey::new(2, vec![99; 16]);
    assert_eq!(a.set_keys(&others), ["accept", "use"]);
    assert!(a.pass(31).is_empty());
    assert_eq!(a.accepted.len(), 3);
}

#[test]
fn keys_of_another_length_are_no_keys() {
    let mut node = Node::new(A, B);
    let odd = |time, len| ManagerKey::new(time, vec![1; len]);
    assert!(node.set_keys(&[odd(1, 0), odd(2, 15), odd(3, 32)]).is_empty());
    // The primary key is no key: rather nothing is sent than with one that the other side does not expect.
    assert_eq!(node.set_keys(&[key(1), odd(2, 32), key(3)]), ["accept", "accept"]);
    assert_eq!(node.set_keys(&keys(1)), ["accept", "use"]);
    assert_eq!(node.set_keys(&[]), ["use"]);
    assert!(node.sealer.is_none() && node.peer.view(node.now).tag.is_none());
    assert_eq!(node.pass(30), ["forget"; 3]);
}

#[test]
fn one_key_is_the_primary_one() {
    let mut node = Node::new(A, B);
    assert_eq!(node.set_keys(&[key(7)]), ["accept", "use"]);
    assert_eq!(node.peer.view(node.now).tag, Some(7));
}

#[test]
fn how_it_stands() {
    let (mut a, b) = pair();
    a.pass(5);
    let view = a.peer.view(a.now);
    assert_eq!((view.remote, view.key_age, view.heard_ago), (ip(B), Some(Duration::from_secs(5)), None));
    assert!(a.takes(b.packet()));
    a.pass(3);
    assert_eq!(a.peer.view(a.now).heard_ago, Some(Duration::from_secs(3)));
}

#[test]
fn a_peer_that_goes_takes_everything_along() {
    let (mut a, _) = pair();
    let mut out = Vec::new();
    a.peer.end(&mut out);
    assert_eq!(a.carry_out(out), ["use", "forget", "forget", "forget"]);
    assert!(a.sealer.is_none() && a.accepted.is_empty());
}

proptest! {
    /// Whatever keys come, in whatever order: no number of a key is given twice, and the driver's tables are the peer's.
    #[test]
    fn numbers_are_never_given_twice(lists in proptest::collection::vec((0u64..6, 1usize..4, 0u64..40), 1..20)) {
        let mut node = Node::new(A, B);
        let mut seen = std::collections::HashSet::new();
        for (first, count, pause) in lists {
            node.set_keys(&(first..first + count as u64).map(key).collect::<Vec<_>>());
            prop_assert!(seen.insert(node.packet()[..16].to_vec()));
            node.pass(pause);
            prop_assert_eq!(node.peer.accepted.len(), node.accepted.len());
        }
    }
}
