//! Rolling updates and rollbacks: slots whose task is not of the newest spec get one that is, a few at a time.
//!
//! ```text
//! stop-first   old: SHUTDOWN, new: READY ─ old stopped ─► new: RUNNING ─┐
//! start-first  new: RUNNING ─ runs ─► old: SHUTDOWN ────────────────────┴─ delay ─► next slot
//! last slot ─ delay, monitor ─► completed         a new task ends within monitor ─► pause, continue, roll back
//! ```
//!
//! Which slots the update has in hand, which of its tasks failed and when it is over is read from the tasks: those
//! of the newest spec, created since the update started, in slots that also know a task of another spec (others
//! were added, not updated).

use std::time::{Duration, SystemTime};

use weft_wire::swarmkit::TaskState;
use weft_wire::swarmkit::update_config::{FailureAction, UpdateOrder};

use super::pass::Pass;
use super::rules::UpdateRules;
use super::running_since::Start;
use super::slot::Slot;

/// How much longer than the monitoring period a task may have existed when it ended, to count as failed early
/// although nobody saw when it started: it had to be placed and prepared.
const START_ALLOWANCE: Duration = Duration::from_secs(10);

/// What an update finds in the slots.
#[derive(Debug, Default)]
struct Survey {
    /// To be replaced.
    todo: Vec<Slot>,
    /// Being replaced, or replaced less than the delay ago.
    in_hand: usize,
    /// When the last one was done.
    last_done: Option<SystemTime>,
}

impl Pass<'_> {
    /// Notes which tasks of the update run.
    pub(super) fn watch_update(&mut self) {
        if !self.is_updating() {
            self.running.clear();
            return;
        }
        let slots: Vec<Slot> = self.slots.keys().cloned().collect();
        for index in slots.iter().flat_map(|slot| self.updated(slot)).collect::<Vec<_>>() {
            let since = self.state_since(index);
            let entry = &self.tasks[index];
            if entry.state < TaskState::Running {
                self.running.saw_waiting(&entry.task.id);
            } else if entry.state == TaskState::Running {
                self.running.saw_running(&entry.task.id, since);
            }
        }
        let snapshot = self.snapshot;
        self.running.keep(|task| snapshot.task(task).is_some());
    }

    /// Does what the failure action says once too many of the update's tasks ended early.
    pub(super) fn check_failures(&mut self, slots: &[Slot]) {
        let rules = UpdateRules::of(&self.service);
        if !self.is_updating() || rules.failure_action == FailureAction::Continue {
            return;
        }
        let mut failed: Vec<(SystemTime, String)> = Vec::new();
        let mut total = 0usize;
        for slot in slots {
            let updated = self.updated(slot);
            if !updated.is_empty() || self.needs_update(slot) {
                total += 1;
            }
            // Later ones of the slot are restarts and the restart policy's affair.
            let first = updated.into_iter().find(|index| !self.was_moved(*index));
            if let Some(index) = first.filter(|index| self.failed_early(*index, rules.monitor)) {
                failed.push((self.state_since(index), self.tasks[index].task.id.clone()));
            }
        }
        if failed.len() as f32 <= rules.max_failure_ratio * total as f32 {
            return;
        }
        let Some((_, task)) = failed.into_iter().max() else { return };
        let due = format!("due to failure or early termination of task {task}");
        if rules.failure_action == FailureAction::Pause {
            self.pause_update(format!("update paused {due}"));
        } else if self.is_rolling_back() {
            // A rollback is not rolled back.
            self.pause_update(format!("rollback paused {due}"));
        } else if !self.roll_back(format!("update rolled back {due}")) {
            self.pause_update(format!("update paused {due}"));
        }
    }

    /// Takes the update of these slots one step further.
    pub(super) fn update(&mut self, slots: &[Slot]) {
        let rules = UpdateRules::of(&self.service);
        let survey = self.survey(slots, &rules);
        if self.is_update_paused() {
            return;
        }
        if !survey.todo.is_empty() {
            self.begin_update();
            let room = rules.parallelism.saturating_sub(survey.in_hand);
            for slot in survey.todo.iter().take(room) {
                self.replace(slot, rules.order);
            }
            return;
        }
        // A rollback that has nothing to do is to be seen all the same: clients wait for it, and its message says why.
        let is_told = self.stored_update_state() == self.update_state();
        if !self.is_updating() || survey.in_hand > 0 || !is_told {
            return;
        }
        let watched = survey.last_done.and_then(|at| self.pending(at, rules.delay + rules.last_watch()));
        match watched {
            Some(end) => self.look_again(end),
            None => self.complete_update(),
        }
    }

    fn survey(&mut self, slots: &[Slot], rules: &UpdateRules) -> Survey {
        let mut survey = Survey::default();
        for slot in slots {
            if self.needs_update(slot) {
                survey.todo.push(slot.clone());
            }
            let is_pair = self.settle(slot, rules.order);
            let updated = self.updated(slot);
            let done = updated.iter().filter_map(|index| self.done_at(*index)).min();
            let is_on_its_way = done.is_none() && updated.iter().any(|index| self.tasks[*index].is_wanted());
            let rests = done.and_then(|at| self.pending(at, rules.delay));
            if let Some(end) = rests {
                self.look_again(end);
            }
            if is_pair || is_on_its_way || rests.is_some() {
                survey.in_hand += 1;
            }
            survey.last_done = survey.last_done.max(done);
        }
        survey
    }

    /// Leaves a slot with one task where one of the newest spec can take over. True while it waits for that.
    fn settle(&mut self, slot: &Slot, order: UpdateOrder) -> bool {
        let (old, new): (Vec<usize>, Vec<usize>) =
            self.wanted(slot).into_iter().partition(|index| self.is_dirty(*index));
        let new = self.keep_best(new);
        let old = self.keep_best(old);
        let (Some(best), Some(_)) = (new, old) else { return false };
        let takes_over = order == UpdateOrder::StopFirst || self.tasks[best].state == TaskState::Running;
        if let Some(old) = old.filter(|_| takes_over) {
            self.ask(old, TaskState::Shutdown);
        }
        !takes_over
    }

    /// Leaves one of some tasks that can stand for each other.
    fn keep_best(&mut self, tasks: Vec<usize>) -> Option<usize> {
        let preference = |index: &usize| {
            let entry = &self.tasks[*index];
            (entry.state == TaskState::Running, !entry.has_ended(), entry.desired)
        };
        // The oldest of equals, which `max_by_key` finds when it looks from the end.
        let best = tasks.iter().rev().max_by_key(|index| preference(index)).copied()?;
        for other in tasks.into_iter().filter(|index| *index != best) {
            self.ask(other, TaskState::Shutdown);
        }
        Some(best)
    }

    fn replace(&mut self, slot: &Slot, order: UpdateOrder) {
        let old = self.wanted(slot);
        if order == UpdateOrder::StartFirst && !old.is_empty() {
            self.create(slot, TaskState::Running);
            return;
        }
        for index in old {
            self.ask(index, TaskState::Shutdown);
        }
        self.create(slot, TaskState::Ready);
    }

    /// Whether the slot's task must be replaced, and one of the newest spec neither is there nor was given up
    /// during this update.
    fn needs_update(&self, slot: &Slot) -> bool {
        let wanted = self.wanted(slot);
        if wanted.is_empty() {
            return self.slot(slot).last().is_some_and(|newest| self.is_dirty(*newest));
        }
        let was_given_up = self.updated(slot).into_iter().any(|index| {
            let entry = &self.tasks[index];
            !entry.is_wanted() && entry.ended_itself() && !self.should_restart(slot, index)
        });
        !was_given_up && wanted.into_iter().all(|index| self.is_dirty(index))
    }

    /// The slot's tasks that are the update's, oldest first.
    fn updated(&self, slot: &Slot) -> Vec<usize> {
        let of_slot = self.slot(slot);
        let Some(started) = self.update_started() else { return Vec::new() };
        if of_slot.iter().all(|index| self.is_newest_spec(*index)) {
            return Vec::new();
        }
        // An update that starts in the future: the clock was set back, and its tasks may seem older than it.
        let is_updated = |index: &usize| {
            self.is_newest_spec(*index) && (self.tasks[*index].created >= started || started > self.now)
        };
        of_slot.iter().copied().filter(is_updated).collect()
    }

    pub(super) fn is_newest_spec(&self, index: usize) -> bool {
        self.tasks[index].task.spec_version == self.service.spec_version
    }

    /// When the update was done with the task: it ran, or never will.
    fn done_at(&self, index: usize) -> Option<SystemTime> {
        let entry = &self.tasks[index];
        if let Start::At(since) = self.running.start_of(&entry.task.id) {
            return Some(since);
        }
        (entry.state == TaskState::Running || entry.ended_itself()).then(|| self.state_since(index))
    }

    /// It was told to go before it could show what it is worth.
    fn was_moved(&self, index: usize) -> bool {
        let entry = &self.tasks[index];
        !entry.is_wanted() && !entry.ended_itself()
    }

    fn failed_early(&self, index: usize, monitor: Duration) -> bool {
        let entry = &self.tasks[index];
        if !entry.ended_itself() {
            return false;
        }
        let ended = self.state_since(index);
        let lasted = |since: SystemTime| ended.duration_since(since).unwrap_or_default();
        match self.running.start_of(&entry.task.id) {
            Start::Never => true,
            Start::At(since) => lasted(since) <= monitor,
            Start::Unknown => {
                entry.state == TaskState::Rejected || lasted(entry.created) <= monitor + START_ALLOWANCE
            }
        }
    }

    /// Tasks that tell how far the running update is.
    pub(super) fn needed_by_update(&self, slot: &Slot) -> Vec<usize> {
        if !self.is_updating() {
            return Vec::new();
        }
        let first = self.updated(slot).into_iter().find(|index| !self.was_moved(*index));
        let other = self.slot(slot).iter().copied().rfind(|index| !self.is_newest_spec(*index));
        first.into_iter().chain(other).collect()
    }
}
