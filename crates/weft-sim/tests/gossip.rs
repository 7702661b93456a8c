//! A few seeds of the simulation; `weft-sim gossip` runs thousands.

use weft_sim::{Counts, Plan, bound, run};

fn all_settle(seeds: std::ops::Range<u64>, nodes: usize) -> Counts {
    let mut last = Counts::default();
    for seed in seeds {
        match run(&Plan::new(seed, nodes)) {
            Ok(outcome) => {
                assert!(outcome.settled <= bound(nodes));
                assert!(outcome.counts.dropped > 0 && outcome.counts.cuts > 0 && outcome.counts.crashes > 0);
                last = outcome.counts;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    last
}

#[test]
fn small_clusters_settle() {
    all_settle(0..30, 5);
}

#[test]
fn clusters_of_thirty_settle() {
    all_settle(100..112, 30);
}

#[test]
fn clusters_of_sixty_settle() {
    all_settle(200..202, 60);
}

#[test]
fn encoded_messages_keep_the_packet_limit() {
    let plan = Plan { encode: true, ..Plan::new(7, 12) };
    let outcome = run(&plan).unwrap_or_else(|failure| panic!("{failure}"));
    assert!((500..=1400).contains(&outcome.counts.largest_datagram), "{}", outcome.counts.largest_datagram);
}

#[test]
fn a_seed_repeats_itself() {
    let plan = Plan::new(11, 20);
    let once = run(&plan).map(|outcome| (outcome.counts, outcome.settled));
    let twice = run(&plan).map(|outcome| (outcome.counts, outcome.settled));
    assert_eq!(once.map_err(|f| f.to_string()), twice.map_err(|f| f.to_string()));
}
