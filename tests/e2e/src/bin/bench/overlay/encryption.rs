//! An encrypted network of Weft's beside Docker's in the clear: Docker's own encryption needs a kernel that not every
//! machine has.

use std::hint::black_box;
use std::time::{Duration, Instant};

use weft_esp::{HEADER_LEN, NEXT_UDP, Opener, Sealer, TrafficKey};

use super::lanes::{Lane, Reading, measure as race};
use super::{Arena, Effort};
use crate::burst::Kind;
use crate::path::Path;
use crate::row::Bound::{AtLeast, AtMost};
use crate::row::{Entry, Goal, Row};
use crate::side::{Side, await_ping};
use crate::stats::Better;

const NETWORK: &str = "sec";
/// Bytes in each packet of [`ceiling`]: what a wire of 1500 carries.
const PAYLOAD: usize = 1424;
/// Packets in each of its rounds: few enough to stay in the processor's cache.
const PACKETS: usize = 200;
const CEILING_ROUNDS: usize = 500;

/// Docker in the clear, Weft encrypted and in the clear, the bare hosts.
pub(crate) fn measure(arena: &Arena, effort: Effort) -> Vec<Row> {
    let encrypted: Vec<Path> = arena.wefts.iter().map(path).collect();
    let mut lanes = vec![Lane::beside("Docker, in the clear", &arena.docker.far)];
    for (weft, path) in arena.wefts.iter().zip(&encrypted) {
        lanes.push(Lane::judged(format!("{}: encrypted", weft.name), path, Some(lanes.len() + 1)));
        lanes.push(Lane::beside(format!("{}: in the clear", weft.name), &weft.far));
    }
    lanes.push(Lane::beside("bare hosts", &arena.bare.far));
    let mut rows = race(&lanes, readings(), effort.rounds);
    rows.push(ceiling());
    rows
}

fn readings() -> Vec<Reading> {
    let cpu = "CPU with helpers";
    vec![
        Reading::of(Kind::Stream, "encrypted TCP, 1 stream"),
        Reading::of(Kind::Streams, "encrypted TCP, 4 streams").goals([Goal::beside_docker(AtLeast(0.3))]),
        Reading::cpu_of(Kind::Streams, format!("encrypted TCP, 4 streams: {cpu}"))
            .goals([Goal::alone(AtMost(1.9))]),
        Reading::of(Kind::Flood, "encrypted UDP 64 B received").goals([Goal::beside_docker(AtLeast(1.5))]),
        Reading::of(Kind::Echo, "encrypted TCP RR, p50").goals([Goal::beside_docker(AtMost(2.5))]),
    ]
}

/// Between containers of the same hosts on an encrypted network.
fn path(side: &Side) -> Path {
    let hosts = &side.hosts;
    hosts.docker("h1", format!("network create -d overlay --attachable --opt encrypted {NETWORK}")).unwrap();
    for (host, container) in [("h1", "sec-a"), ("h2", "sec-b")] {
        hosts.run_idle(host, container, &format!("--network {NETWORK}")).unwrap();
    }
    let address = hosts.address("h2", "sec-b", NETWORK).unwrap();
    await_ping(hosts, "sec-a", &address);
    let carriers = ["h1", "h2"].into_iter().flat_map(|host| hosts.processes(host, "helper")).collect();
    Path::between(side.place("h1", "sec-a"), side.place("h2", "sec-b"), &address).carried_by(carriers)
}

/// What one thread seals and opens of full packets when it does nothing else: no engine can be faster a thread.
fn ceiling() -> Row {
    let key = TrafficKey::new([7; TrafficKey::LEN]);
    let (sealer, mut opener) = (Sealer::new(9, &key), Opener::new(&key));
    let mut packets = vec![Vec::new(); PACKETS];
    let mut round = |_| {
        packets.iter_mut().for_each(|packet| packet.resize(HEADER_LEN + PAYLOAD, 0x5a));
        let begin = Instant::now();
        packets.iter_mut().for_each(|packet| sealer.seal(black_box(packet), 0, NEXT_UDP).unwrap());
        let sealed = begin.elapsed();
        for packet in &mut packets {
            black_box(opener.open(packet).unwrap());
        }
        (sealed, begin.elapsed() - sealed)
    };
    let rounds: Vec<_> = (0..CEILING_ROUNDS).map(&mut round).collect();
    let entry = |name: &str, of: fn(&(Duration, Duration)) -> Duration| {
        let speed = |round| (PAYLOAD * PACKETS) as f64 / of(round).as_nanos() as f64;
        Entry {
            name: name.to_owned(),
            values: rounds.iter().map(speed).collect(),
            judged: false,
            limit: None,
        }
    };
    Row {
        title: "AES-GCM of full packets alone, 1 thread".to_owned(),
        unit: "GB/s",
        better: Better::Higher,
        goals: Vec::new(),
        entries: vec![entry("sealed", |round| round.0), entry("opened", |round| round.1)],
        beside_docker: false,
    }
}
