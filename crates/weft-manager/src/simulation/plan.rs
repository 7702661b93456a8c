//! What a seed decides before anything runs.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::consensus::RaftOptions;

/// After the last fault everything is well within this virtual time.
///
/// A restarted member waits for up to 2.4 s before it stands for election, splits its vote a few times in bad luck, and
/// a member that was away is asked again after at most openraft's longest pause; then requests begun before that may
/// take their 10 s.
pub fn bound() -> Duration {
    Duration::from_secs(30)
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Members at first; one more host waits to be let in.
    pub members: usize,
    /// Virtual time with disturbances.
    pub disturbed: Duration,
    /// What is done wrong on purpose.
    pub(super) mistake: Option<Mistake>,
    /// Log entries between two images.
    pub(super) snapshot_interval: u64,
    /// Log entries kept below an image.
    pub(super) log_entries_kept: u64,
}

impl Plan {
    /// The run of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x9e37_79b9);
        Self {
            seed,
            members: if rng.random_bool(0.7) { 3 } else { 5 },
            mistake: None,
            disturbed: Duration::from_secs(rng.random_range(30..60)),
            snapshot_interval: rng.random_range(15..150),
            log_entries_kept: rng.random_range(3..40),
        }
    }

    /// The same with a mistake.
    pub fn with(mut self, mistake: Mistake) -> Self {
        self.mistake = Some(mistake);
        self
    }

    pub(super) fn options(&self) -> RaftOptions {
        RaftOptions { snapshot_interval: self.snapshot_interval, log_entries_kept: self.log_entries_kept }
    }
}

/// A mistake that breaks a rule: a simulation that does not find it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Readers take their own manager's state without asking the leader.
    ReadsWithoutAsking,
    /// Disks say that they synced and did not.
    DisksLie,
}
