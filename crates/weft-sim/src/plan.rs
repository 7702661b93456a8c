//! What happens in a run.

use std::time::Duration;

use weft_gossip::Timing;

/// The size and the times of a run. The seed decides the rest.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Hosts.
    pub nodes: usize,
    /// Every message goes through the codec, as bytes.
    pub encode: bool,
    /// Nodes start within this time, and have as much again to settle.
    pub start: Duration,
    /// Faults last this long.
    pub storm: Duration,
}

impl Plan {
    /// The usual run. One seed of 64 goes through the codec, with at most 50 nodes because that takes ten times longer.
    pub fn new(seed: u64, nodes: usize) -> Self {
        let encode = seed % 64 == 7;
        Self {
            seed,
            nodes: if encode { nodes.min(50) } else { nodes },
            encode,
            start: Duration::from_secs(6),
            storm: Duration::from_secs(45),
        }
    }

    /// Networks; a node is on one to three of them.
    pub(crate) fn networks(&self) -> usize {
        (self.nodes / 20).clamp(2, 12)
    }
}

/// Virtual time after the last fault within which all tables must be right on all of `nodes` nodes.
///
/// The longest chain is: a member that died in the last moment is suspected by one node whose word nobody confirms
/// (the longest suspicion, 4 × 6 × log10 n seconds), and a node that missed that verdict, or a change, learns of it
/// in the next exchange of tables (30 s), with five seconds for gossip's rounds. 90 s for 200 nodes.
pub fn bound(nodes: usize) -> Duration {
    let timing = Timing::default();
    let scale = (nodes.max(1) as f64).log10().max(1.0);
    let factor = f64::from(timing.suspicion_multiplier * timing.suspicion_max_multiplier);
    timing.probe_interval.mul_f64(factor * scale) + timing.bulk_sync_interval + Duration::from_secs(5)
}
