//! What Docker nodes sent, heard by one of ours.

use std::collections::BTreeSet;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;
use weft_gossip::{Config, Effect, Event, Gossip, GossipKey, StreamId, Tick};

const UDP: &str = include_str!("../../weft-wire/tests/vectors/03-gossip-udp.json");
const TCP: &str = include_str!("../../weft-wire/tests/vectors/04-gossip-tcp.json");
/// The ingress network of the captured swarm.
const NETWORK: &str = "fexb4ijrgcw3io3d48z3lthhw";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(value, field)).unwrap_or_else(|error| panic!("{field}: {error}"))
}

fn node(udp: &Value, out: &mut Vec<Effect>) -> Gossip {
    let all = udp["keys"].as_array().into_iter().flatten();
    let keys = all.filter(|key| text(key, "sub") == "networking:gossip").map(|key| GossipKey {
        lamport_time: key["lt"].as_u64().unwrap_or_default(),
        key: bytes(key, "key"),
    });
    let rng = || Box::new(StdRng::seed_from_u64(1));
    let config = Config::docker(([10, 96, 0, 3], 7946).into());
    Gossip::new(Tick::ZERO, config, keys.collect::<Vec<_>>(), rng(), rng(), out).expect("captured keys")
}

#[test]
fn a_captured_cluster_is_understood() {
    let udp: Value = serde_json::from_str(UDP).unwrap();
    let tcp: Value = serde_json::from_str(TCP).unwrap();
    let mut out = Vec::new();
    let mut gossip = node(&udp, &mut out);
    gossip.join_network(Tick::ZERO, NETWORK, &mut out).unwrap();

    let mut answered = 0;
    for (at, stream) in tcp.as_array().into_iter().flatten().enumerate() {
        let from = format!("{}:40000", text(stream, "sender")).parse().unwrap();
        let before = out.len();
        gossip.on_stream(Tick::ZERO, StreamId(at as u64), from, &bytes(stream, "stream_bytes"), &mut out);
        let answers = out[before..].iter().filter(|e| matches!(e, Effect::Answer { .. })).count();
        let asks = out[before..].iter().filter(|e| matches!(e, Effect::Request { .. })).count();
        match text(stream, "kind") {
            kind if kind.starts_with("push/pull") => assert_eq!(answers, 1, "{kind}"),
            "bulk sync unsolicited" => assert_eq!((answers, asks), (0, 1)),
            kind => assert_eq!(answers, 0, "{kind}"),
        }
        answered += answers;
    }
    assert_eq!(answered, 4);
    let names: BTreeSet<_> = gossip.core().members().map(|(name, ..)| name.to_string()).collect();
    assert!(names.contains("2a9836562100") && names.contains("4957797300e8"), "{names:?}");
    let owners: BTreeSet<_> =
        gossip.entries().map(|entry| (entry.owner.to_string(), entry.owner_address)).collect();
    assert!(owners.contains(&("4957797300e8".to_owned(), ([10, 96, 0, 1], 7946).into())), "{owners:?}");

    for packet in udp["packets"].as_array().into_iter().flatten() {
        let from = format!("{}:7946", text(packet, "src")).parse().unwrap();
        gossip.on_datagram(Tick::ZERO, from, &bytes(packet, "datagram"), &mut out);
    }
    let told =
        |wanted: &dyn Fn(&Event) -> bool| out.iter().any(|e| matches!(e, Effect::Event(e) if wanted(e)));
    assert!(told(&|e| matches!(e, Event::MemberUp { name, .. } if **name == *"wirfake00001")));
    // The captures end with this node leaving the cluster.
    assert!(told(&|e| matches!(e, Event::MemberDown { name, left: true, .. } if **name == *"2a9836562100")));
    assert!(gossip.entries().all(|entry| *entry.owner != *"2a9836562100"));
}
