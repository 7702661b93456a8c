//! This node's entries in gossip's tables, from one wish to the next.
//!
//! Docker's engine takes an update of an endpoint's names to mean that its task ceases to take traffic, and passes over
//! every other update. So names are told once a task takes traffic; what changes otherwise, or takes traffic again, is
//! deleted and made anew.

use std::collections::BTreeSet;

use weft_gossip::{Effect, Gossip, Tick};
use weft_wire::networkdb::EndpointRecord;

use super::gossip::note;
use super::protocol::{GossipWish, OwnEntry};
use crate::peers::ENDPOINT_TABLE;

/// Deletes what the new wish has no more on networks that it still has. Leaving a network deletes the rest.
pub(super) fn withdraw(
    gossip: &mut Gossip,
    now: Tick,
    old: &[OwnEntry],
    wish: &GossipWish,
    out: &mut Vec<Effect>,
) {
    let kept: BTreeSet<(&str, &str, &str)> = wish.entries.iter().map(key_of).collect();
    let gone =
        old.iter().filter(|entry| wish.networks.contains(&entry.network) && !kept.contains(&key_of(entry)));
    for OwnEntry { network, table, key, .. } in gone {
        // Names of a task that never took traffic were never told.
        if gossip.core().own_entry(network, table, key).is_some() {
            note(gossip.delete_entry(now, network, table, key, out));
        }
    }
}

/// Puts what is wished for.
pub(super) fn tell(gossip: &mut Gossip, now: Tick, entries: &[OwnEntry], out: &mut Vec<Effect>) {
    for OwnEntry { network, table, key, value } in entries {
        if table == ENDPOINT_TABLE {
            let told = gossip.core().own_entry(network, table, key).map(|event| &*event.value);
            match name_step(told, value) {
                NameStep::Wait => continue,
                NameStep::Put => {}
                NameStep::Replace => note(gossip.delete_entry(now, network, table, key, out)),
            }
        }
        note(gossip.put_entry(now, network, table, key, value, out));
    }
}

fn key_of(entry: &OwnEntry) -> (&str, &str, &str) {
    (&entry.network, &entry.table, &entry.key)
}

/// How the names of an endpoint come to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameStep {
    /// A task that takes no traffic yet has no names.
    Wait,
    Put,
    /// Deleted and made anew.
    Replace,
}

fn name_step(told: Option<&[u8]>, value: &[u8]) -> NameStep {
    let rests = EndpointRecord::decode(value).is_ok_and(|record| record.service_disabled);
    match told {
        None if rests => NameStep::Wait,
        None => NameStep::Put,
        Some(told) if rests || told == value => NameStep::Put,
        Some(_) => NameStep::Replace,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use weft_gossip::message::TableChange;
    use weft_gossip::{Config, GossipKey};

    use super::*;

    const NETWORK: &str = "networknetworknetworknetw";

    fn record(name: &str, service_disabled: bool) -> Vec<u8> {
        let record = EndpointRecord {
            name: name.to_owned(),
            service_name: "web".to_owned(),
            service_id: "s".to_owned(),
            virtual_ip: None,
            endpoint_ip: IpAddr::from([10, 0, 1, 2]),
            ingress_ports: Vec::new(),
            aliases: Vec::new(),
            task_aliases: Vec::new(),
            service_disabled,
        };
        record.encode()
    }

    /// A node, and what it wished for last.
    struct Node {
        gossip: Gossip,
        last: Vec<OwnEntry>,
    }

    impl Node {
        fn new() -> Self {
            let advertise: SocketAddr = "192.0.2.1:7946".parse().unwrap();
            let random = || Box::new(StdRng::seed_from_u64(1));
            let key = |lamport_time| GossipKey { lamport_time, key: vec![7; 16] };
            let (keys, mut out) = ([key(1), key(2)], Vec::new());
            let config = Config::docker(advertise);
            let mut gossip = Gossip::new(Tick::ZERO, config, keys, random(), random(), &mut out).unwrap();
            gossip.join_network(Tick::ZERO, NETWORK, &mut out).unwrap();
            Self { gossip, last: Vec::new() }
        }

        /// Wishes for an endpoint's names, or for none; says what the cluster is told of it then.
        fn wish(&mut self, names: Option<&[u8]>) -> Option<(TableChange, Vec<u8>)> {
            let entry = |value: &[u8]| OwnEntry {
                network: NETWORK.to_owned(),
                table: ENDPOINT_TABLE.to_owned(),
                key: "e".to_owned(),
                value: value.to_vec(),
            };
            let wish = GossipWish {
                advertise: "192.0.2.1:7946".parse().unwrap(),
                keys: Vec::new(),
                join: Vec::new(),
                networks: vec![NETWORK.to_owned()],
                entries: names.map(entry).into_iter().collect(),
                owners: None,
            };
            let mut out = Vec::new();
            withdraw(&mut self.gossip, Tick::ZERO, &self.last, &wish, &mut out);
            tell(&mut self.gossip, Tick::ZERO, &wish.entries, &mut out);
            self.last = wish.entries;
            let told = self.gossip.core().own_entry(NETWORK, ENDPOINT_TABLE, "e");
            told.map(|event| (event.change, event.value.to_vec()))
        }
    }

    #[test]
    fn names_are_told_so_that_dockers_engine_hears_them() {
        let (rests, runs, renamed) = (record("a", true), record("a", false), record("b", false));
        let mut node = Node::new();
        assert_eq!(node.wish(Some(&rests)), None, "not before it takes traffic");
        assert_eq!(node.wish(None), None);
        assert_eq!(node.wish(Some(&rests)), None);
        assert_eq!(node.wish(Some(&runs)), Some((TableChange::Create, runs.clone())));
        assert_eq!(node.wish(Some(&rests)), Some((TableChange::Update, rests.clone())), "it ceases to");
        assert_eq!(node.wish(Some(&runs)), Some((TableChange::Create, runs.clone())), "and begins again");
        assert_eq!(node.wish(Some(&runs)), Some((TableChange::Create, runs)), "nothing changed");
        assert_eq!(node.wish(Some(&renamed)), Some((TableChange::Create, renamed)));
        assert_eq!(node.wish(None), None);
    }
}
