//! The replicated store: objects, and who holds what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use weft_orchestration::testing::TestCluster;
use weft_orchestration::{Change, Claim, InUse, Proposal, Snapshot as _};
use weft_wire::swarmkit::{Service, Task, TaskState, TaskStatus};

use super::objects::state;

/// All that a majority of managers agreed on.
pub(super) struct Store {
    pub(super) objects: TestCluster,
    pub(super) taken: InUse,
    holders: BTreeMap<Claim, String>,
}

/// Why a transaction did not take effect.
pub(super) enum Refused {
    /// Something it was computed from has changed.
    OutOfDate,
    /// The transaction itself is wrong.
    Wrong(String),
}

impl Store {
    pub(super) fn new() -> Self {
        Self { objects: TestCluster::new(), taken: InUse::default(), holders: BTreeMap::new() }
    }

    pub(super) fn holders(&self) -> &BTreeMap<Claim, String> {
        &self.holders
    }

    /// Applies a transaction as a whole, or not at all.
    pub(super) fn commit(&mut self, proposal: &Proposal, now: SystemTime) -> Result<(), Refused> {
        let ids: BTreeSet<&str> = proposal.changes.iter().map(Change::id).collect();
        if ids.len() != proposal.changes.len() {
            return Err(Refused::Wrong("an object is written twice".to_owned()));
        }
        self.backward(proposal)?;
        let removed: Vec<&str> = proposal.changes.iter().filter_map(removed).collect();
        let is_freed = |claim: &Claim, holder: &String| {
            removed.contains(&holder.as_str()) || proposal.releases.contains(claim)
        };
        let conflict = |(claim, _): &&(Claim, String)| {
            self.holders.get(claim).is_some_and(|holder| !is_freed(claim, holder))
        };
        if proposal.claims.iter().any(|claim| conflict(&claim)) {
            return Err(Refused::OutOfDate);
        }
        self.objects.set_now(now);
        self.objects.apply(&proposal.changes).map_err(|_| Refused::OutOfDate)?;
        for id in removed {
            self.release_all(id);
        }
        for claim in &proposal.releases {
            self.release(claim);
        }
        for (claim, holder) in &proposal.claims {
            self.claim(claim, holder);
        }
        Ok(())
    }

    /// A transaction must not take back what a node reported.
    fn backward(&self, proposal: &Proposal) -> Result<(), Refused> {
        for change in &proposal.changes {
            let Change::UpdateTask(task) = change else { continue };
            let Some(before) = self.objects.task(&task.id) else { continue };
            if before.meta == task.meta && state(task) < state(before) {
                let what = format!("task {} goes from {:?} to {:?}", task.id, state(before), state(task));
                return Err(Refused::Wrong(what));
            }
        }
        Ok(())
    }

    pub(super) fn claim(&mut self, claim: &Claim, holder: &str) {
        self.taken.insert(claim.clone(), holder);
        self.holders.insert(claim.clone(), holder.to_owned());
    }

    fn release(&mut self, claim: &Claim) {
        self.taken.remove(claim);
        self.holders.remove(claim);
    }

    fn release_all(&mut self, holder: &str) {
        let held: Vec<Claim> =
            self.holders.iter().filter(|(_, of)| *of == holder).map(|(claim, _)| claim.clone()).collect();
        for claim in held {
            self.release(&claim);
        }
    }

    /// As the dispatcher: a status only grows, and what ended holds nothing.
    pub(super) fn report(&mut self, node: &str, id: &str, new: TaskState, now: SystemTime) {
        let Some(task) = self.objects.task(id).cloned() else { return };
        if task.node_id != node {
            return;
        }
        if new > TaskState::Running && state(&task) > TaskState::Running {
            // The managers took it off its node before.
            self.release_all(id);
        }
        if new <= state(&task) {
            return;
        }
        let mut task = Task::clone(&task);
        let stamp = Some(now.into());
        let status = TaskStatus { timestamp: stamp, applied_at: stamp, ..TaskStatus::default() };
        task.status = Some(TaskStatus { state: new.into(), ..status });
        self.objects.set_now(now);
        self.objects.put_task(task);
        if new > TaskState::Running {
            self.release_all(id);
        }
    }

    /// As the control API: a new spec.
    pub(super) fn put_service(&mut self, service: Service, now: SystemTime) {
        self.objects.set_now(now);
        self.objects.put_service(service);
    }
}

fn removed(change: &Change) -> Option<&str> {
    match change {
        Change::RemoveTask { id, .. } | Change::RemoveService { id, .. } => Some(id),
        _ => None,
    }
}
