//! From what the loops want to what is proposed.
//!
//! ```text
//! loops: new tasks, updates, removals
//!   -> services get virtual addresses and ports
//!   -> new tasks get addresses                    NEW     -> PENDING
//!   -> tasks that no longer suit their node go    RUNNING -> REJECTED
//!   -> pending tasks get nodes                    PENDING -> ASSIGNED
//! ```
//!
//! All in one transaction, each object written once: a new service's tasks reach nodes after a single commit. What
//! cannot be given now is written with the reason, and tried again each time.

mod draft;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use weft_wire::swarmkit::{Service, Task, TaskState};

use crate::{
    AllocateError, Allocator, Change, Claim, Dirty, Scheduler, Snapshot, Taken, TakenSince, allocate_service,
    allocate_task, enforce, note_failure, task_claims,
};
use draft::Draft;

/// Completes what the loops want.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    scheduler: Scheduler,
}

/// One transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proposal {
    /// Writes; no object twice.
    pub changes: Vec<Change>,
    /// What objects take, with the id of each. Right only together with the changes.
    pub claims: Vec<(Claim, String)>,
    /// What they held and no longer need, to be freed before anything is claimed. What removed objects hold goes
    /// with them and is not named.
    pub releases: Vec<Claim>,
}

impl Proposal {
    /// Whether there is nothing to propose.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl Pipeline {
    /// One without memory of where tasks failed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Completes `changes`, which were computed from `snapshot`, together with what else `snapshot` shows as new or
    /// pending. `dirty` names the services and nodes to look at besides; `taken` is as of `snapshot`.
    ///
    /// Call it after every commit that touched a service, task, node or network, also without changes: room may
    /// have appeared for what waits.
    pub fn complete(
        &mut self,
        snapshot: &dyn Snapshot,
        dirty: &Dirty,
        changes: Vec<Change>,
        allocator: &mut Allocator,
        taken: &dyn Taken,
        now: SystemTime,
    ) -> Proposal {
        let mut step = Step {
            draft: Draft::new(snapshot, changes),
            allocator,
            taken: TakenSince::new(taken),
            claims: Vec::new(),
            releases: Vec::new(),
            now,
        };
        let waiting = Waiting::of(&step.draft);
        let failed = step.complete_services(dirty, &waiting.new);
        let mut pending = waiting.pending;
        pending.extend(step.complete_tasks(waiting.new, &failed));
        step.enforce(dirty);
        step.schedule(&mut self.scheduler, pending);
        step.finish()
    }
}

/// Tasks that want something.
#[derive(Default)]
struct Waiting {
    new: Vec<Task>,
    pending: Vec<Task>,
}

impl Waiting {
    fn of(draft: &Draft<'_>) -> Self {
        let mut waiting = Self::default();
        for task in draft.waiting_tasks() {
            match task.status.as_ref().map_or(TaskState::New, |status| status.state()) {
                TaskState::New => waiting.new.push(Task::clone(task)),
                TaskState::Pending => waiting.pending.push(Task::clone(task)),
                _ => {}
            }
        }
        waiting
    }
}

struct Step<'a> {
    draft: Draft<'a>,
    allocator: &'a mut Allocator,
    taken: TakenSince<'a>,
    claims: Vec<(Claim, String)>,
    releases: Vec<Claim>,
    now: SystemTime,
}

impl Step<'_> {
    /// Those that changed, and those with new tasks. Gives the ones that cannot have what they ask for.
    fn complete_services(&mut self, dirty: &Dirty, new: &[Task]) -> BTreeMap<String, AllocateError> {
        let mut ids: BTreeSet<String> = dirty.services.clone();
        ids.extend(new.iter().map(|task| task.service_id.clone()));
        if dirty.all {
            ids.extend(self.draft.services().map(|service| service.id.clone()));
        }
        let mut failed = BTreeMap::new();
        for id in ids {
            let Some(service) = self.draft.service(&id).filter(|service| !service.pending_delete) else {
                continue;
            };
            if let Err(error) = self.complete_service(Service::clone(service)) {
                failed.insert(id, error);
            }
        }
        failed
    }

    fn complete_service(&mut self, mut service: Service) -> Result<(), AllocateError> {
        let allocated = allocate_service(&self.draft, self.allocator, &self.taken, &mut service)?;
        if allocated.is_changed {
            self.claim(allocated.claims, &service.id);
            self.releases.extend(allocated.releases);
            self.draft.put_service(service);
        }
        Ok(())
    }

    /// Gives the tasks that are pending now.
    fn complete_tasks(&mut self, new: Vec<Task>, failed: &BTreeMap<String, AllocateError>) -> Vec<Task> {
        let mut pending = Vec::with_capacity(new.len());
        for mut task in new {
            if task.desired_state > TaskState::Complete as i32 {
                // Nothing was given to it yet; the scheduler ends it as it does pending ones.
                task.status.get_or_insert_default().state = TaskState::Pending.into();
                pending.push(task);
                continue;
            }
            let service = self.draft.service(&task.service_id).cloned();
            if service.is_none() && !task.service_id.is_empty() {
                continue;
            }
            let result = match failed.get(&task.service_id) {
                Some(error) => Err(error.clone()),
                None => allocate_task(
                    &self.draft,
                    self.allocator,
                    &self.taken,
                    service.as_deref(),
                    &mut task,
                    self.now,
                ),
            };
            match result {
                Ok(allocated) => {
                    self.claim(allocated.claims, &task.id);
                    pending.push(task);
                }
                Err(error) => {
                    if note_failure(&mut task, &error, self.now) {
                        self.draft.put_task(task);
                    }
                }
            }
        }
        pending
    }

    fn enforce(&mut self, dirty: &Dirty) {
        let all: Vec<String> = match dirty.all {
            true => self.draft.nodes().map(|node| node.id.clone()).collect(),
            false => Vec::new(),
        };
        let nodes = if dirty.all { all.iter().collect() } else { dirty.nodes.iter().collect::<Vec<_>>() };
        for task in enforce(&self.draft, nodes.into_iter().map(String::as_str), self.now) {
            self.draft.put_task(task);
        }
    }

    fn schedule(&mut self, scheduler: &mut Scheduler, mut pending: Vec<Task>) {
        // A slot's order of coming, so that the oldest wait the shortest where room is scarce.
        pending.sort_by(|a, b| (&a.service_id, a.slot, &a.id).cmp(&(&b.service_id, b.slot, &b.id)));
        scheduler.schedule(&self.draft, &mut pending, self.now);
        for task in pending {
            self.draft.put_task_if_changed(task);
        }
    }

    fn claim(&mut self, claims: Vec<Claim>, holder: &str) {
        for claim in claims {
            self.taken.insert(claim.clone(), holder);
            self.claims.push((claim, holder.to_owned()));
        }
    }

    fn finish(mut self) -> Proposal {
        let ended: Vec<Claim> = self.draft.ended_tasks().flat_map(task_claims).collect();
        self.allocator.rest(&ended);
        self.releases.extend(ended);
        Proposal { changes: self.draft.into_changes(), claims: self.claims, releases: self.releases }
    }
}
