//! An encrypted network of Weft's beside Docker's in the clear: Docker's own encryption needs a kernel that not every
//! machine has.

use std::hint::black_box;
use std::time::{Duration, Instant};

use weft_e2e::{Hosts, ping};
use weft_esp::{HEADER_LEN, NEXT_UDP, Opener, Sealer, TrafficKey};
use weft_lab::eventually;

use crate::side::Side;
use crate::traffic::{Kind, Path, Sample, in_turn, of};
use crate::{DEADLINE, ROUNDS, median, report};

/// Bytes in each packet of [`ceiling`]: what a wire of 1500 carries.
const PAYLOAD: usize = 1424;
/// Packets in each of its rounds: few enough to stay in the processor's cache.
const PACKETS: usize = 200;

/// Containers of the same hosts on an encrypted network.
fn path(hosts: &Hosts) -> Path {
    hosts.docker("h1", "network create -d overlay --attachable --opt encrypted sec").unwrap();
    let pids = [("h1", "sec-a"), ("h2", "sec-b")].map(|(host, container)| {
        hosts.run_idle(host, container, "--network sec").unwrap();
        hosts.inspect(host, container, "{{.State.Pid}}").unwrap()
    });
    let address = hosts.address("h2", "sec-b", "sec").unwrap();
    eventually("the encrypted network works", DEADLINE, || {
        let pinged = ping(hosts, "h1", "sec-a", &address, 1).map_err(|e| e.to_string())?;
        if pinged.is_lossless() { Ok(()) } else { Err("no answer".to_owned()) }
    });
    let carriers = ["h1", "h2"].into_iter().flat_map(|host| hosts.host(host).processes()).filter(is_helper);
    Path::between(&pids[0], &pids[1], &address).carried_by(carriers.collect())
}

/// The process that encrypts.
fn is_helper(pid: &i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|words| words.split(|byte| *byte == 0).any(|word| word == b"helper"))
}

/// Bursts over Docker's overlay in the clear and Weft's encrypted one, Weft's in the clear and the bare hosts, in turn.
pub(crate) fn measure(docker: &Side, weft: &Side) {
    let encrypted = path(&weft.hosts);
    let paths = [&docker.overlay, &encrypted, &weft.overlay, &weft.underlay];
    let also = |clear: f64, bare: f64| {
        println!("  {:<59} {clear:>9.3} {bare:>8.3}", "Weft in the clear, bare hosts")
    };
    for (what, cpu, kind) in [
        ("TCP, Gb/s", "CPU of both ends and helpers, s/GB", Kind::Stream),
        (
            "TCP, 4 streams, Gb/s (goal >= 0.30)",
            "CPU of both ends and helpers, s/GB (Weft <= 2.0)",
            Kind::Streams,
        ),
        ("request-response, p50, us (goal <= 2.5)", "CPU of both ends and helpers, us", Kind::Echo),
    ] {
        let [on_docker, on_weft, clear, bare] = in_turn(paths, kind);
        for (line, part) in [
            (format!("encrypted {what}"), (|s| s.value) as fn(&Sample) -> f64),
            (format!("  {cpu}"), |s| s.cpu),
        ] {
            report(&line, [of(&on_docker, part), of(&on_weft, part)]);
            also(median(of(&clear, part)), median(of(&bare, part)));
        }
    }
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (path, rates) in paths.iter().zip(&mut rates) {
            rates.push(path.datagrams() / 1e3);
        }
    }
    let [on_docker, on_weft, clear, bare] = rates;
    report("encrypted UDP, 64 bytes, thousands/s received (goal >= 1.5)", [on_docker, on_weft]);
    also(median(clear), median(bare));
    let (sealed, opened) = ceiling();
    println!(
        "  {:<59} {sealed:>9.3} {opened:>8.3}",
        "AES-GCM of packets alone, one thread, GB/s: sealed, opened"
    );
}

/// What one thread seals and opens of full packets when it does nothing else, in GB/s: no engine can be faster a thread.
fn ceiling() -> (f64, f64) {
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
    let rounds: Vec<_> = (0..ROUNDS * 100).map(&mut round).collect();
    let speed = |of: fn(&(Duration, Duration)) -> Duration| {
        median(rounds.iter().map(|round| (PAYLOAD * PACKETS) as f64 / of(round).as_nanos() as f64).collect())
    };
    (speed(|round| round.0), speed(|round| round.1))
}
