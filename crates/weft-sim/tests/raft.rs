//! A few seeds of the simulated group of managers; `weft-sim raft` runs thousands.

use std::sync::Mutex;

use weft_manager::simulation::{Counts, Mistake, Plan, bound, run};

/// Seeds that every test run plays.
const SEEDS: u64 = 60;

#[test]
fn groups_agree_and_come_to_rest() {
    let seeds = Mutex::new(0..SEEDS);
    let sum = Mutex::new(Counts::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = next(&seeds) {
                    let outcome = run(&Plan::new(seed)).unwrap_or_else(|failure| panic!("{failure}"));
                    assert!(outcome.settled <= bound());
                    add(&mut sum.lock().unwrap(), outcome.counts);
                }
            });
        }
    });
    let sum = *sum.lock().unwrap();
    // The faults really hit.
    let all = [
        sum.lost,
        sum.refused,
        sum.forwarded,
        sum.unconfirmed,
        sum.power_losses,
        sum.kills,
        sum.stops,
        sum.cuts,
        sum.slow_disks,
        sum.leaps,
        sum.snapshots,
        sum.changes,
    ];
    assert!(all.iter().all(|count| *count > 0), "{sum:?}");
    assert!(sum.terms > SEEDS, "the leader changed: {sum:?}");
}

fn next(seeds: &Mutex<std::ops::Range<u64>>) -> Option<u64> {
    seeds.lock().ok()?.next()
}

fn add(sum: &mut Counts, counts: Counts) {
    sum.lost += counts.lost;
    sum.refused += counts.refused;
    sum.forwarded += counts.forwarded;
    sum.unconfirmed += counts.unconfirmed;
    sum.power_losses += counts.power_losses;
    sum.kills += counts.kills;
    sum.stops += counts.stops;
    sum.cuts += counts.cuts;
    sum.slow_disks += counts.slow_disks;
    sum.leaps += counts.leaps;
    sum.snapshots += counts.snapshots;
    sum.changes += counts.changes;
    sum.terms += counts.terms;
}

#[test]
fn a_group_repeats_itself() {
    let plan = Plan::new(5);
    let once = run(&plan).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(once, run(&plan).unwrap_or_else(|failure| panic!("{failure}")));
}

#[test]
fn mistakes_are_found() {
    for mistake in [Mistake::ReadsWithoutAsking, Mistake::DisksLie] {
        let found = (0..20).find(|seed| run(&Plan::new(*seed).with(mistake)).is_err());
        assert!(found.is_some(), "{mistake:?} breaks no rule");
    }
}
