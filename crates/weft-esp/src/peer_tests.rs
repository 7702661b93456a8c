use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::offload::Checksums;

/// Two nodes and the wire between them, one instant after the other.
struct Pair {
    now: Duration,
    nodes: [Node; 2],
    fresh: u8,
    /// Datagrams that were sent, for replays.
    wire: Vec<(usize, Vec<u8>)>,
}

struct Node {
    peer: Peer,
    accepted: HashMap<u32, Arc<Inbound>>,
    sealer: Option<Arc<Sealer>>,
}

fn node(own: &str, remote: &str) -> Node {
    let mut peer = Peer::new(own.parse().unwrap(), remote.parse().unwrap());
    peer.set_keys(&keys(1));
    Node { peer, accepted: HashMap::new(), sealer: None }
}

fn keys(first: u64) -> Vec<ManagerKey> {
    (first..first + 3).map(|time| ManagerKey::new(time, vec![time as u8; 16])).collect()
}

fn proof(sealer: &Sealer) -> Option<Vec<u8>> {
    let mut packet = vec![0; crate::HEADER_LEN];
    packet.extend(crate::frame::proof(A.parse().unwrap(), B.parse().unwrap(), 4789));
    sealer.seal(&mut packet, 0, crate::NEXT_UDP).is_ok().then_some(packet)
}

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

impl Pair {
    fn new() -> Self {
        Self { now: Duration::from_secs(100), nodes: [node(A, B), node(B, A)], fresh: 0, wire: Vec::new() }
    }

    fn call(
        &mut self,
        at: usize,
        work: impl FnOnce(&mut Peer, Duration, &mut dyn FnMut() -> Fresh, &mut Vec<Effect>),
    ) {
        let mut out = Vec::new();
        let mut next = self.fresh;
        let mut fresh = || {
            next += 1;
            Fresh { private: [next; 32], spi: 1000 + u32::from(next) }
        };
        work(&mut self.nodes[at].peer, self.now, &mut fresh, &mut out);
        self.fresh = next;
        for effect in out {
            match effect {
                Effect::Send(datagram) => self.wire.push((1 - at, datagram)),
                Effect::Accept(inbound) => {
                    self.nodes[at].accepted.insert(inbound.spi(), inbound);
                }
                Effect::Forget(spi) => {
                    self.nodes[at].accepted.remove(&spi);
                }
                Effect::Use(sealer) => self.nodes[at].sealer = sealer,
                Effect::Prove(sealer) => self.wire.extend(proof(&sealer).map(|packet| (1 - at, packet))),
            }
        }
    }

    /// Everything on the wire arrives, as far as `arrives` lets it.
    fn deliver(&mut self, mut arrives: impl FnMut() -> bool) {
        while !self.wire.is_empty() {
            for (to, datagram) in std::mem::take(&mut self.wire) {
                if arrives() {
                    self.receive(to, datagram);
                }
            }
        }
    }

    fn receive(&mut self, to: usize, mut datagram: Vec<u8>) -> bool {
        let Some(spi) = crate::spi_of(&datagram) else {
            let mut taken = false;
            self.call(to, |peer, now, fresh, out| {
                taken = peer.on_message(now, &datagram, fresh, out).is_ok()
            });
            return taken;
        };
        let Some(inbound) = self.nodes[to].accepted.get(&spi).cloned() else {
            self.call(to, |peer, now, fresh, out| peer.on_unknown_spi(now, fresh, out));
            return false;
        };
        let mut opener = inbound.opener();
        let Ok(opened) = opener.open(&mut datagram) else { return false };
        if inbound.note_heard(self.now) {
            self.call(to, |peer, now, _, out| peer.on_proven(now, spi, out));
        }
        if let Some(proof) = crate::frame::read_proof(opened.payload) {
            inbound.note_proof(proof);
        }
        true
    }

    fn tick(&mut self, step: Duration) {
        self.now += step;
        (0..2).for_each(|at| self.call(at, |peer, now, fresh, out| peer.tick(now, fresh, out)));
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.tick(Duration::from_millis(100));
            self.deliver(|| true);
        }
    }

    /// Whether a packet of each gets to the other.
    fn talk(&mut self) -> [bool; 2] {
        [0, 1].map(|from| {
            let Some(sealer) = self.nodes[from].sealer.clone() else { return false };
            let mut packet = vec![0; crate::HEADER_LEN];
            packet.extend([9; 100]);
            sealer.seal(&mut packet, 0, crate::NEXT_UDP).unwrap();
            let came = self.receive(1 - from, packet);
            self.deliver(|| true);
            came
        })
    }

    fn tags(&self) -> [Option<u32>; 2] {
        [0, 1].map(|at| self.nodes[at].peer.view(self.now).tag)
    }
}

#[test]
fn two_nodes_find_keys_under_the_primary_one() {
    let mut pair = Pair::new();
    assert_eq!(pair.talk(), [false, false]);
    pair.run(1);
    assert_eq!(pair.talk(), [true, true]);
    assert_eq!(pair.tags(), [Some(2), Some(2)]);
}

/// Each side learns what the other one can do by the keys that it sends with.
#[test]
fn questions_that_cross_end_in_one_pairing() {
    for arrivals in 0..1u32 << 12 {
        let mut pair = Pair::new();
        pair.tick(Duration::from_millis(100));
        assert_eq!(pair.wire.len(), 2, "both ask");
        // In whichever order what is on the wire arrives.
        for turn in 0..12 {
            if pair.wire.is_empty() {
                break;
            }
            let at = if arrivals >> turn & 1 == 0 { 0 } else { pair.wire.len() - 1 };
            let (to, datagram) = pair.wire.remove(at);
            pair.receive(to, datagram);
        }
        pair.deliver(|| true);
        let used = [0, 1].map(|at| pair.nodes[at].peer.in_use().unwrap());
        assert_eq!(used[0].inbound.spi(), used[1].outbound.spi(), "{arrivals:b}");
        assert_eq!(used[1].inbound.spi(), used[0].outbound.spi(), "{arrivals:b}");
        assert!(used.iter().all(|session| session.outbound.checksums() == Checksums::Left), "{arrivals:b}");
    }
}

#[test]
fn a_rotation_loses_nothing() {
    let mut pair = Pair::new();
    pair.run(1);
    for first in 2..30 {
        pair.nodes[0].peer.set_keys(&keys(first));
        assert_eq!(pair.talk(), [true, true]);
        pair.run(1);
        assert_eq!(pair.talk(), [true, true]);
        pair.nodes[1].peer.set_keys(&keys(first));
        pair.run(3);
        assert_eq!(pair.talk(), [true, true]);
        assert_eq!(pair.tags(), [Some(first as u32 + 1); 2]);
    }
    pair.run(60);
    assert!(pair.nodes.iter().all(|node| node.accepted.len() <= 2), "old keys end");
}

#[test]
fn a_node_that_lost_its_keys_is_heard_again_at_once() {
    let mut pair = Pair::new();
    pair.run(1);
    for at in [0, 1] {
        let (own, other) = if at == 0 { (A, B) } else { (B, A) };
        pair.nodes[at] = node(own, other);
        pair.run(1);
        assert_eq!(pair.talk(), [true, true]);
    }
}

#[test]
fn what_was_recorded_opens_nothing_and_breaks_nothing() {
    let mut pair = Pair::new();
    pair.tick(Duration::from_millis(100));
    let mut recorded = pair.wire.clone();
    for _ in 0..20 {
        pair.deliver(|| true);
        pair.tick(Duration::from_millis(100));
        recorded.extend(pair.wire.clone());
    }
    // The receiver starts anew, with an empty memory of what came.
    pair.nodes[1] = node(B, A);
    pair.run(1);
    assert_eq!(pair.talk(), [true, true]);
    let tags = pair.nodes[0].sealer.as_ref().unwrap().spi();
    for (to, datagram) in recorded {
        let is_packet = crate::spi_of(&datagram).is_some();
        let taken = pair.receive(to, datagram);
        assert!(!(is_packet && taken), "an old packet opened");
        pair.wire.clear();
    }
    assert_eq!(pair.nodes[0].sealer.as_ref().unwrap().spi(), tags, "nobody changes keys for an old question");
    assert_eq!(pair.talk(), [true, true]);
    assert!(pair.nodes[1].accepted.len() <= MAX_UNPROVEN + 2);
}

#[test]
fn keys_that_are_nearly_used_up_are_replaced() {
    let mut pair = Pair::new();
    pair.run(1);
    let old = pair.nodes[1].sealer.clone().unwrap();
    old.note_used(u32::MAX - 10);
    pair.run(4);
    assert_ne!(pair.nodes[1].sealer.as_ref().unwrap().spi(), old.spi());
    assert_eq!(pair.talk(), [true, true]);
}

#[test]
fn what_an_engine_loses_is_paired_anew_and_never_put_back() {
    for at in [0, 1] {
        for inbound in [false, true] {
            let mut pair = Pair::new();
            pair.run(2);
            let node = &pair.nodes[at];
            let sent_with = node.sealer.as_ref().unwrap().spi();
            let mine: Vec<u32> = node.accepted.keys().copied().collect();
            pair.call(at, |peer, _, _, out| match inbound {
                true => mine.iter().for_each(|spi| peer.on_inbound_lost(*spi, out)),
                false => peer.on_outbound_lost(sent_with, out),
            });
            assert!(pair.nodes[at].sealer.is_none(), "nothing is sent by what is gone");
            pair.run(1);
            assert_eq!(pair.talk(), [true, true]);
            assert_ne!(pair.nodes[at].sealer.as_ref().unwrap().spi(), sent_with);
            assert!(!inbound || mine.iter().all(|spi| !pair.nodes[at].accepted.contains_key(spi)));
        }
    }
}

#[test]
fn keys_taken_back_end_even_without_successor() {
    let mut pair = Pair::new();
    pair.run(1);
    pair.nodes[0].peer.set_keys(&keys(50));
    pair.run(40);
    assert!(pair.nodes[0].sealer.is_none() && pair.nodes[0].accepted.is_empty());
    assert_eq!(pair.talk(), [false, false]);
}

#[test]
fn a_peer_that_goes_takes_everything_along() {
    let mut pair = Pair::new();
    pair.run(1);
    pair.call(0, |peer, _, _, out| peer.end(out));
    assert!(pair.nodes[0].sealer.is_none() && pair.nodes[0].accepted.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost, restarted and rotated: once the wire is whole again, both talk.
    #[test]
    fn it_always_heals(events in proptest::collection::vec((0u8..6, any::<u64>()), 1..25)) {
        let mut pair = Pair::new();
        let mut first = [1u64, 1];
        for (event, random) in events {
            let at = (random & 1) as usize;
            match event {
                0 => {
                    let (own, other) = if at == 0 { (A, B) } else { (B, A) };
                    pair.nodes[at] = node(own, other);
                    let keys = keys(first[at]);
                    pair.nodes[at].peer.set_keys(&keys);
                }
                1 if first[at] <= first[1 - at] => {
                    first[at] += 1;
                    let keys = keys(first[at]);
                    pair.nodes[at].peer.set_keys(&keys);
                }
                2 => { pair.talk(); }
                _ => {}
            }
            let mut noise = random;
            for _ in 0..random % 40 {
                pair.tick(Duration::from_millis(100 + random % 900));
                pair.deliver(|| {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    noise >> 62 != 0
                });
            }
            // Private keys of the test are numbered by one byte.
            if pair.fresh > 200 { break }
        }
        let newest = *first.iter().max().unwrap();
        (0..2).for_each(|at| { let keys = keys(newest); pair.nodes[at].peer.set_keys(&keys); });
        pair.run(5);
        pair.talk();
        prop_assert_eq!(pair.talk(), [true, true]);
        pair.run(20);
        prop_assert_eq!(pair.talk(), [true, true]);
        prop_assert_eq!(pair.tags(), [Some(newest as u32 + 1); 2]);
    }
}
