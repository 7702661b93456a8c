//! Replacing tasks that ended or whose node cannot run them.

use std::time::SystemTime;

use weft_wire::swarmkit::TaskState;
use weft_wire::swarmkit::restart_policy::RestartCondition;

use super::pass::Pass;
use super::placement::must_leave;
use super::rules::RestartRules;
use super::slot::{Slot, is_job};

impl Pass<'_> {
    /// Gives up on the slot's tasks that ended or must leave their node, and creates what replaces them. The
    /// replacement is only prepared; [`Pass::start_ready`] says when it runs.
    pub(super) fn restart_slot(&mut self, slot: &Slot) {
        for index in self.wanted(slot) {
            let ended = self.tasks[index].has_ended();
            if !(ended || self.must_leave_node(index)) || self.is_job_done(index) {
                continue;
            }
            // What cannot even be prepared (no such image) is not tried again before its own delay is over.
            if ended
                && self.tasks[index].desired == TaskState::Ready
                && let Some(end) = self.delay_end(slot, index)
            {
                self.look_again(end);
                continue;
            }
            let was_dirty = self.is_dirty(index);
            self.ask(index, TaskState::Shutdown);
            if self.should_restart(slot, index) && !self.is_covered(slot, was_dirty) {
                self.create(slot, TaskState::Ready);
            }
        }
    }

    /// Whether no more is to come in this slot: its last task ended or was stopped, and its policy wants no other.
    pub(super) fn gave_up(&self, slot: &Slot) -> bool {
        let Some(newest) = self.slot(slot).last().copied() else { return false };
        let entry = &self.tasks[newest];
        !entry.is_wanted() && entry.desired != TaskState::Remove && !self.should_restart(slot, newest)
    }

    /// Whether the task's restart policy wants another one in its place.
    pub(super) fn should_restart(&self, slot: &Slot, index: usize) -> bool {
        let entry = &self.tasks[index];
        let rules = RestartRules::of_task(&entry.task);
        let completed = entry.state == TaskState::Complete;
        let wants = match rules.condition {
            RestartCondition::None => false,
            RestartCondition::OnFailure => !completed,
            // To run a completed job again would be pointless.
            RestartCondition::Any => !(completed && is_job(&self.service)),
        };
        wants && (rules.max_attempts == 0 || self.attempts(slot, index, &rules) < rules.max_attempts)
    }

    /// How often tasks of the same spec were restarted in this slot; the first one is no restart.
    fn attempts(&self, slot: &Slot, index: usize, rules: &RestartRules) -> u64 {
        let version = self.tasks[index].task.spec_version;
        let of_version = self
            .slot(slot)
            .iter()
            .map(|other| &self.tasks[*other])
            .filter(|it| it.task.spec_version == version);
        let restarts = of_version.skip(1).map(|entry| entry.created);
        let Some(window) = rules.window else { return restarts.count() as u64 };
        let end = self.state_since(index);
        let start = end.checked_sub(window).unwrap_or(SystemTime::UNIX_EPOCH);
        restarts.filter(|created| *created > start && *created < end).count() as u64
    }

    pub(super) fn must_leave_node(&self, index: usize) -> bool {
        !self.tasks[index].task.node_id.is_empty() && must_leave(self.node_of(index))
    }

    fn is_job_done(&self, index: usize) -> bool {
        self.tasks[index].state == TaskState::Complete && is_job(&self.service)
    }

    /// Whether another task of the slot goes on, so that one which ended needs no replacement. One of an older
    /// spec does not stand in for one of the newest: that one is still to come.
    fn is_covered(&self, slot: &Slot, was_dirty: bool) -> bool {
        self.wanted(slot).into_iter().any(|other| {
            !self.tasks[other].has_ended()
                && !self.must_leave_node(other)
                && (was_dirty || !self.is_dirty(other))
        })
    }
}
