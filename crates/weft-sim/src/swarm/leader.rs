//! A manager that leads.

use std::time::SystemTime;

use rand::rngs::StdRng;
use weft_orchestration::{
    Allocator, AllocatorConfig, Dirty, Orchestrator, Pipeline, PoolError, Proposal, Snapshot as _,
};
use weft_wire::swarmkit::Cluster;

use super::store::Store;

/// The loops, and what they remember while this manager leads.
pub(super) struct Leader {
    orchestrator: Orchestrator,
    pipeline: Pipeline,
    allocator: Allocator,
    /// Not looked at yet.
    pub(super) dirty: Dirty,
}

impl Leader {
    /// One that knows nothing but the store.
    pub(super) fn new(store: &Store) -> Result<Self, PoolError> {
        let config = AllocatorConfig::of_cluster(&Cluster::default())?;
        let networks = store.objects.networks().map(AsRef::as_ref);
        Ok(Self {
            orchestrator: Orchestrator::new(),
            pipeline: Pipeline::new(),
            allocator: Allocator::rebuild(config, networks, &store.taken),
            dirty: Dirty::everything(),
        })
    }

    pub(super) fn allocator(&mut self) -> &mut Allocator {
        &mut self.allocator
    }

    /// What is to be written, and when to look again if nothing happens before.
    pub(super) fn compute(
        &mut self,
        store: &Store,
        now: SystemTime,
        rng: &mut StdRng,
    ) -> (Proposal, Option<SystemTime>) {
        let mut changes = Vec::new();
        let wake = self.orchestrator.reconcile(&store.objects, &self.dirty, now, rng, &mut changes);
        let proposal = self.pipeline.complete(
            &store.objects,
            &self.dirty,
            changes,
            &mut self.allocator,
            &store.taken,
            now,
        );
        (proposal, wake)
    }
}
