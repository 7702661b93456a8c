//! How long things take. Not run unless asked for, with an optimised build:
//! `cargo test -p weft-esp --config 'profile.dev.package.weft-esp.opt-level=3' timings -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Instant;

use crate::checksum::sum;
use crate::offload::{Checksums, Offload};
use crate::samples::Large;
use crate::transport::Transport;
use crate::{Frame, HEADER_LEN, Joiner, NEXT_UDP, Opener, Sealer, Takes, TrafficKey};

const ROUNDS: u32 = 200_000;
/// What a wire of 1500 bytes takes in a packet.
const PAYLOAD: usize = 1424;

/// The best of a few runs: other programs only ever make it longer.
fn time(name: &str, rounds: u32, mut work: impl FnMut()) {
    let run = |_| {
        let begin = Instant::now();
        (0..rounds).for_each(|_| work());
        begin.elapsed().as_nanos() as f64 / f64::from(rounds)
    };
    let best = (0..5).map(run).fold(f64::INFINITY, f64::min);
    println!("{name:24} {best:8.1} ns");
}

fn schemes(name: &str, sealer: Sealer, mut opener: impl FnMut() -> Opener) {
    let mut packet = vec![0; HEADER_LEN + PAYLOAD];
    time(&format!("seal {name}"), ROUNDS, || {
        packet.truncate(HEADER_LEN + PAYLOAD);
        sealer.seal(black_box(&mut packet), 0, NEXT_UDP).unwrap();
    });
    // A window takes each packet once, so many are made first.
    let packets: Vec<_> = (0..1000)
        .map(|_| {
            packet.truncate(HEADER_LEN + PAYLOAD);
            sealer.seal(&mut packet, 0, NEXT_UDP).unwrap();
            packet.clone()
        })
        .collect();
    time(&format!("open {name} (1000)"), 20, || {
        let mut opener = opener();
        let mut copy = vec![0; packets[0].len()];
        for packet in &packets {
            copy.copy_from_slice(packet);
            opener.open(black_box(&mut copy)).unwrap();
        }
    });
}

#[test]
#[ignore = "measures"]
fn timings() {
    let key = TrafficKey::new([7; TrafficKey::LEN]);
    schemes("native", Sealer::new(9, &key), || Opener::new(&key));
    schemes("docker", Sealer::docker(9, &key, 5), || Opener::docker(&key));
    let bytes = vec![0x5a; PAYLOAD];
    time("sum", ROUNDS, || {
        black_box(sum(black_box(&bytes), 0));
    });
    let sample = Large { transport: Transport::Tcp, v4: true, options: 3, flags: 0x10, source_port: 80 };
    let whole = sample.frame(&vec![0x5a; 44 * 1356]);
    let offload = Offload::large(Transport::Tcp, true, sample.start(), 1356);
    let (mut frame, mut train) = (whole.clone(), Vec::with_capacity(80_000));
    let mut frames = Vec::new();
    let mut joiner = Joiner::new();
    for checksums in [Checksums::Complete, Checksums::Left] {
        time(&format!("cut 44, {checksums:?}"), ROUNDS / 100, || {
            frame[..sample.headers()].copy_from_slice(&whole[..sample.headers()]);
            train.clear();
            frames.clear();
            offload.finish(black_box(&mut frame), checksums, |piece| {
                let begin = train.len();
                train.extend_from_slice(piece.head);
                train.extend_from_slice(piece.data);
                frames.push(Frame { place: begin..train.len(), left: piece.left });
            });
        });
        let first = train[..sample.headers()].to_vec();
        time(&format!("join 44, {checksums:?}"), ROUNDS / 100, || {
            train[..first.len()].copy_from_slice(&first);
            let mut count = 0;
            joiner.join(black_box(&mut train), &frames, Takes::Tcp, &mut |_, slices| count += slices.len());
            assert_eq!(count, 44);
        });
    }
}
