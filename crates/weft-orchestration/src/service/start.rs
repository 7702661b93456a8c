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
        let entry = &self.tasks[index];
        let before = self.before(slot, index).last();
        let is_delayed =
            before.is_none_or(|before| self.tasks[before].ended_itself() && !self.is_dirty(before));
        if !is_delayed {
            return None;
        }
        self.pending(entry.created, RestartRules::of_task(&entry.task).delay)
    }

    /// Until when to wait for the slot's earlier tasks to stop; none if they have, or have had their time.
    fn stop_timeout(&self, slot: &Slot, index: usize) -> Option<SystemTime> {
        let is_stopping = |other: usize| {
            let entry = &self.tasks[other];
            !entry.is_wanted() && entry.may_run() && !is_lost(self.node_of(other))
        };
        let waits = self.before(slot, index).any(is_stopping);
        waits.then(|| self.pending(self.tasks[index].created, OLD_TASK_TIMEOUT)).flatten()
    }

    fn before(&self, slot: &Slot, index: usize) -> impl Iterator<Item = usize> + use<'_> {
        self.slot(slot).iter().copied().take_while(move |other| *other != index)
    }

    /// The end of a period that began at `start`, if it is still to come. A start in the future is a clock that
    /// was set back: nobody waits until it has caught up.
    pub(super) fn pending(&self, start: SystemTime, period: Duration) -> Option<SystemTime> {
        let passed = self.now.duration_since(start).ok()?;
        (passed < period).then(|| start.checked_add(period)).flatten()
    }
}
