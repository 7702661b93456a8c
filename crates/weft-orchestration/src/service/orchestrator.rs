//! Which services to look at, and when.

use std::time::SystemTime;

use rand::RngCore;

use crate::{Change, Dirty, Snapshot};

/// Turns services into tasks.
#[derive(Debug, Default)]
pub struct Orchestrator {}

impl Orchestrator {
    /// One that knows nothing yet: its first call looks at everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to write so that tasks follow services and nodes, added to `out` to be proposed as one transaction.
    ///
    /// Call it after each commit that made something dirty, at the returned time, and again after a refusal (what
    /// was dirty then need not be named again: whatever a proposal touched is looked at until it shows no change).
    pub fn reconcile(
        &mut self,
        _snapshot: &dyn Snapshot,
        _dirty: &Dirty,
        _now: SystemTime,
        _rng: &mut dyn RngCore,
        _out: &mut Vec<Change>,
    ) -> Option<SystemTime> {
        None
    }
}
