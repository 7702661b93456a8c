//! A few seeds of the simulated swarm; `weft-sim swarm` runs thousands.

use weft_sim::swarm::{SwarmCounts, SwarmPlan, bound, run};

#[test]
fn swarms_come_to_rest() {
    let mut sum = SwarmCounts::default();
    for seed in 0..60 {
        let outcome = run(&SwarmPlan::new(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(outcome.settled <= bound());
        sum.commits += outcome.counts.commits;
        sum.refused += outcome.counts.refused;
        sum.in_doubt += outcome.counts.in_doubt;
        sum.crashes += outcome.counts.crashes;
        sum.cuts += outcome.counts.cuts;
        sum.exhausted += outcome.counts.exhausted;
    }
    // The faults really hit.
    let all = [sum.commits, sum.refused, sum.in_doubt, sum.crashes, sum.cuts, sum.exhausted];
    assert!(all.iter().all(|count| *count > 0), "{sum:?}");
}

#[test]
fn a_swarm_repeats_itself() {
    let plan = SwarmPlan::new(5);
    let once = run(&plan).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(once, run(&plan).unwrap_or_else(|failure| panic!("{failure}")));
}
