//! One round: from what is dirty to transactions that took effect.

use std::collections::BTreeSet;
use std::time::SystemTime;

use prost::Message as _;
use weft_orchestration::{Allocator, Change, Claim, Dirty, Orchestrator, Pipeline, Proposal};

use super::balance;
use crate::brain::Brain;
use crate::error::ControlError;
use crate::network::Reports;
use crate::store::{ObjectKind, Transaction, View, version_of};
use crate::taken::{ViewTaken, to_store};

/// Most objects of one transaction: one that is refused costs no more than this, and others come in between.
const MAX_CHANGES: usize = 512;
/// Most bytes of one transaction: what a manager writes and sends at once.
const MAX_BYTES: usize = 2 << 20;

/// What the loops remember while this manager leads.
pub(super) struct Driver {
    orchestrator: Orchestrator,
    pipeline: Pipeline,
    /// Most objects of the next transaction; fewer after a refusal, so that something gets through among others' changes.
    limit: usize,
}

/// What one computation gave.
pub(super) struct Step {
    /// Not everything fitted: compute the rest from the view after this.
    more: bool,
    wake: Option<SystemTime>,
}

impl Driver {
    pub(super) fn new() -> Self {
        Self { orchestrator: Orchestrator::new(), pipeline: Pipeline::new(), limit: MAX_CHANGES }
    }

    /// Makes the store follow. Gives the time at which to look again without any commit.
    pub(super) async fn run(
        &mut self,
        brain: &Brain,
        dirty: &Dirty,
    ) -> Result<Option<SystemTime>, ControlError> {
        loop {
            let mut attempts = 0;
            let step = (brain.core)
                .allocate(|view, allocator, transaction| {
                    attempts += 1;
                    if attempts > 1 {
                        self.limit = (self.limit / 2).max(1);
                    }
                    Ok::<_, ControlError>(self.compute(view, &brain.reports, allocator, transaction, dirty))
                })
                .await?;
            self.limit = (self.limit * 2).min(MAX_CHANGES);
            if !step.more {
                return Ok(step.wake);
            }
        }
    }

    pub(super) fn compute(
        &mut self,
        view: &View,
        reports: &Reports,
        allocator: &mut Allocator,
        transaction: &mut Transaction,
        dirty: &Dirty,
    ) -> Step {
        // An update counts the tasks created since it started: both must be told by one clock reading.
        let now = transaction.time();
        let mut changes = Vec::new();
        let wake = self.orchestrator.reconcile(view, dirty, now, &mut rand::rng(), &mut changes);
        // What is cut off comes again: then only what is written is allocated and placed.
        let cut = changes.len() > self.limit;
        changes.truncate(self.limit);
        let mut taken = ViewTaken::new(view);
        let proposal = self.pipeline.complete(view, dirty, changes, allocator, &taken, now);
        let written = write(view, transaction, &mut taken, &proposal, self.limit);
        balance::follow(view, reports, allocator, transaction, &mut taken, &proposal.changes[..written]);
        Step { more: cut || written < proposal.changes.len(), wake }
    }
}

/// Adds what fits into the transaction: the first of the changes. Gives how many.
fn write(
    view: &View,
    transaction: &mut Transaction,
    taken: &mut ViewTaken<'_>,
    proposal: &Proposal,
    limit: usize,
) -> usize {
    let mut written = BTreeSet::new();
    let mut bytes = 0;
    for change in &proposal.changes {
        bytes += size(change);
        if written.len() >= limit || (bytes > MAX_BYTES && !written.is_empty()) {
            break;
        }
        written.insert(change.id());
        put(transaction, change);
    }
    depend(view, transaction, proposal, &written);
    for claim in proposal.releases.iter().map(to_store) {
        if view.holder_of(&claim).is_some_and(|holder| written.contains(holder)) {
            transaction.release(&claim);
        }
    }
    for (claim, holder) in &proposal.claims {
        if written.contains(holder.as_str()) {
            taken.claim(transaction, [claim.clone()], holder);
        }
    }
    written.len()
}

/// New tasks are right for the version of their service, and addresses for a network that is still there.
fn depend(view: &View, transaction: &mut Transaction, proposal: &Proposal, written: &BTreeSet<&str>) {
    let created = proposal.changes.iter().filter(|change| written.contains(change.id()));
    let services: BTreeSet<&str> = created
        .filter_map(|change| match change {
            Change::CreateTask(task) => Some(task.service_id.as_str()),
            _ => None,
        })
        .collect();
    for service in services.into_iter().filter_map(|id| view.service(id)) {
        transaction.require(ObjectKind::Service, &service.id, version_of(service.meta.as_ref()));
    }
    let claimed = proposal.claims.iter().filter(|(_, holder)| written.contains(holder.as_str()));
    let networks: BTreeSet<&str> = claimed
        .filter_map(|(claim, _)| match claim {
            Claim::Address { network, .. } => Some(network.as_str()),
            _ => None,
        })
        .collect();
    for network in networks.into_iter().filter_map(|id| view.network(id)) {
        transaction.require(ObjectKind::Network, &network.id, version_of(network.meta.as_ref()));
    }
}

fn put(transaction: &mut Transaction, change: &Change) {
    match change {
        Change::CreateTask(task) => transaction.create(task.clone()),
        Change::UpdateTask(task) => transaction.update(task.clone()),
        Change::RemoveTask { id, version } => transaction.remove(ObjectKind::Task, id, *version),
        Change::UpdateService(service) => transaction.update(service.clone()),
        Change::RemoveService { id, version } => transaction.remove(ObjectKind::Service, id, *version),
    };
}

fn size(change: &Change) -> usize {
    match change {
        Change::CreateTask(task) | Change::UpdateTask(task) => task.encoded_len(),
        Change::UpdateService(service) => service.encoded_len(),
        Change::RemoveTask { id, .. } | Change::RemoveService { id, .. } => id.len(),
    }
}
