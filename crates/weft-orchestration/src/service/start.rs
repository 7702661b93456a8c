//! From prepared to running: a task of desired state READY starts when its restart delay is over and what it
//! replaces has stopped.
//!
//! Both are read from the store, so a new leader neither forgets a start nor waits anew.

use std::time::{Duration, SystemTime};

use weft_wire::swarmkit::TaskState;

use super::pass::Pass;
use super::placement::is_lost;
use super::rules::RestartRules;
use super::slot::{Slot, is_job};

/// How long a task waits for what it replaces to stop (SwarmKit `restart.go`, `defaultOldTaskTimeout`).
const OLD_TASK_TIMEOUT: Duration = Duration::from_secs(60);

impl Pass<'_> {
    /// Starts what was prepared and needs to wait no longer.
    pub(super) fn start_ready(&mut self) {
        let started = if is_job(&self.service) { TaskState::Complete } else { TaskState::Running };
        let slots: Vec<Slot> = self.slots.keys().cloned().collect();
        for slot in &slots {
            for index in self.wanted(slot) {
                let entry = &self.tasks[index];
                if entry.desired != TaskState::Ready || entry.has_ended() {
                    continue;
                }
                let delayed = self.delay_end(slot, index);
                match delayed.or_else(|| self.stop_timeout(slot, index)) {
                    None => self.ask(index, started),
                    Some(at) => self.look_again(at),
                }
            }
        }
    }

    /// When the restart delay of a prepared task is over; none if it is, or there is none.
    ///
    /// There is one after a task that ended by itself. What left its node or made room for a newer spec is replaced
    /// at once. A predecessor that nobody knows any more may have been either.
    pub(super) fn delay_end(&self, slot: &Slot, index: usize) -> Option<SystemTime> {
        let replaced = self.replaced_by(slot, index);
        let is_delayed =
            replaced.is_none_or(|other| self.tasks[other].ended_itself() && !self.is_dirty(other));
        if !is_delayed {
            return None;
        }
        let entry = &self.tasks[index];
        self.pending(entry.created, RestartRules::of_task(&entry.task).delay)
    }

    /// What a prepared task was created for: the newest of those that are to run no more.
    ///
    /// If one of these is newer than the task itself, the clock was set back and their order tells nothing. Then it
    /// is the one that asks for a delay, or a task that fails at once would be tried without end until the clock
    /// has caught up.
    pub(super) fn replaced_by(&self, slot: &Slot, index: usize) -> Option<usize> {
        let created = self.tasks[index].created;
        let others = self.unwanted(slot);
        let is_ordered = others.iter().all(|other| self.tasks[*other].created <= created);
        let failed = |other: &usize| self.tasks[*other].ended_itself() && !self.is_dirty(*other);
        let by_failure = || others.iter().copied().rfind(failed);
        let failed = if is_ordered { None } else { by_failure() };
        failed.or(others.last().copied())
    }

    /// Until when to wait for the slot's other tasks to stop; none if they have, or have had their time.
    fn stop_timeout(&self, slot: &Slot, index: usize) -> Option<SystemTime> {
        let is_stopping = |other: usize| self.tasks[other].may_run() && !is_lost(self.node_of(other));
        let waits = self.unwanted(slot).into_iter().any(is_stopping);
        waits.then(|| self.pending(self.tasks[index].created, OLD_TASK_TIMEOUT)).flatten()
    }

    fn unwanted(&self, slot: &Slot) -> Vec<usize> {
        self.slot(slot).iter().copied().filter(|index| !self.tasks[*index].is_wanted()).collect()
    }

    /// The end of a period that began at `start`, if it is still to come. A start in the future is a clock that
    /// was set back: nobody waits until it has caught up.
    pub(super) fn pending(&self, start: SystemTime, period: Duration) -> Option<SystemTime> {
        let passed = self.now.duration_since(start).ok()?;
        (passed < period).then(|| start.checked_add(period)).flatten()
    }
}
