//! What came of a run.

use std::time::Duration;

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent between members.
    pub messages: u64,
    /// Messages or answers that did not arrive.
    pub lost: u64,
    /// Commands that were applied, by whoever applied them first.
    pub commands: u64,
    /// Commands that the store refused.
    pub refused: u64,
    /// Reads and writes that were answered.
    pub answered: u64,
    /// Of these, on members that did not lead.
    pub forwarded: u64,
    /// Writes of which nobody knows whether they took effect.
    pub unconfirmed: u64,
    /// Terms that had a leader.
    pub terms: u64,
    /// Members that lost their power.
    pub power_losses: u64,
    /// Members that were killed, their disk's cache surviving them.
    pub kills: u64,
    /// Members that stopped in good order.
    pub stops: u64,
    /// Cuts of the network.
    pub cuts: u64,
    /// Disks that stalled or were slow.
    pub slow_disks: u64,
    /// Leaps of the clock.
    pub leaps: u64,
    /// Whole states that one member sent another.
    pub snapshots: u64,
    /// Members that were let in or taken out during disturbances.
    pub changes: u64,
}

/// A run that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How much happened.
    pub counts: Counts,
    /// Virtual time from the last fault until all members knew one leader.
    pub elected: Duration,
    /// Virtual time from the last fault until all states were equal, new writes included.
    pub settled: Duration,
}

/// A run that broke a rule. The seed repeats it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides everything.
    pub seed: u64,
    /// Virtual time in milliseconds.
    pub at_ms: u64,
    /// The rule.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {} at {} ms: {}", self.seed, self.at_ms, self.what)
    }
}

impl std::error::Error for Failure {}
