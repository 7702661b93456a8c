//! Removing tasks that are only remembered.

use std::collections::HashSet;

use weft_wire::swarmkit::{Cluster, TaskState};

use super::new_task::job_iteration;
use super::pass::Pass;
use super::rules::RestartRules;
use super::slot::{Slot, is_job};

/// How many tasks a slot keeps if the swarm does not say (Docker's default at `swarm init`).
const DEFAULT_HISTORY: usize = 5;

impl Pass<'_> {
    /// Removes what was asked to go and has, and of each slot the oldest ended tasks beyond the history limit.
    pub(super) fn reap(&mut self) {
        for index in 0..self.tasks.len() {
            let entry = &self.tasks[index];
            let runs_nowhere = entry.state < TaskState::Assigned || entry.has_ended();
            if entry.desired == TaskState::Remove && runs_nowhere {
                self.remove(index);
            }
        }
        let Some(limit) = self.history_limit() else { return };
        let slots: Vec<Slot> = self.slots.keys().cloned().collect();
        for slot in &slots {
            self.reap_slot(slot, limit);
        }
    }

    fn reap_slot(&mut self, slot: &Slot, limit: usize) {
        let there: Vec<usize> =
            self.slot(slot).iter().copied().filter(|index| !self.is_removed(*index)).collect();
        if there.len() <= limit {
            return;
        }
        let needed = self.still_needed(slot);
        let is_history = |index: &usize| {
            let entry = &self.tasks[*index];
            let never_ran = entry.state < TaskState::Assigned;
            !entry.is_wanted() && (entry.has_ended() || never_ran) && !needed.contains(index)
        };
        let excess = there.len() - limit;
        let history: Vec<usize> = there.into_iter().filter(is_history).take(excess).collect();
        for index in history {
            self.remove(index);
        }
    }

    /// What decisions yet to come depend on, however short the history.
    fn still_needed(&self, slot: &Slot) -> HashSet<usize> {
        let of_slot = self.slot(slot);
        let mut needed: HashSet<usize> = HashSet::new();
        // Tells that nothing more is to come.
        if self.wanted(slot).is_empty() {
            needed.extend(of_slot.last());
        }
        // Tells what a prepared task waits for.
        for index in of_slot.iter().filter(|index| self.tasks[**index].desired == TaskState::Ready) {
            needed.extend(self.replaced_by(slot, *index));
        }
        if is_job(&self.service) {
            let iteration = job_iteration(&self.service);
            needed.extend(of_slot.iter().filter(|index| {
                let entry = &self.tasks[**index];
                entry.state == TaskState::Complete
                    && entry.task.job_iteration.unwrap_or_default() == iteration
            }));
        }
        needed.extend(self.counted_attempts(slot));
        needed.extend(self.needed_by_update(slot));
        needed
    }

    /// The tasks that tell whether the present spec was tried as often as it may be.
    fn counted_attempts(&self, slot: &Slot) -> Vec<usize> {
        let attempts = usize::try_from(self.max_attempts()).unwrap_or(usize::MAX).saturating_add(1);
        let of_slot = self.slot(slot).iter().copied();
        of_slot.rev().filter(|index| self.is_newest_spec(*index)).take(attempts).collect()
    }

    fn max_attempts(&self) -> u64 {
        let spec = self.service.spec.as_ref().and_then(|spec| spec.task.as_ref());
        RestartRules::of_spec(spec).max_attempts
    }

    /// None for no limit. A limit of attempts needs as many tasks to count.
    fn history_limit(&self) -> Option<usize> {
        let attempts = self.max_attempts();
        if attempts > 0 {
            return Some(usize::try_from(attempts).ok()?.saturating_add(1));
        }
        limit_of(self.snapshot.cluster().map(|cluster| &**cluster))
    }
}

fn limit_of(cluster: Option<&Cluster>) -> Option<usize> {
    let orchestration = cluster.and_then(|it| it.spec.as_ref()).and_then(|spec| spec.orchestration.as_ref());
    match orchestration {
        None => Some(DEFAULT_HISTORY),
        Some(config) => usize::try_from(config.task_history_retention_limit).ok(),
    }
}
