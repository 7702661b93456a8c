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
/// A task that ended by itself within this time of its making came to nothing.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// What follows the first task in a row that came to nothing waits so long, what follows the next twice as long, and so
/// on up to a second: who asks for no delay does not get a loop that keeps node and managers busy. Delays of a second and more
/// stay as asked.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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
        let asked = RestartRules::of_task(&entry.task).delay;
        self.pending(entry.created, asked.max(pause(self.short_lives(slot, index))))
    }

    /// How many tasks in a row came to nothing before this one, as far as the slot remembers.
    fn short_lives(&self, slot: &Slot, index: usize) -> u32 {
        let lives = |other: &&usize| {
            let entry = &self.tasks[**other];
            let lived = self.state_since(**other).duration_since(entry.created).unwrap_or_default();
            entry.ended_itself() && lived < SHORT_LIFE
        };
        let before = self.slot(slot).iter().filter(|other| **other != index).rev();
        u32::try_from(before.take_while(lives).count()).unwrap_or(u32::MAX)
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

/// The least delay after so many tasks in a row that came to nothing.
fn pause(short_lives: u32) -> Duration {
    match short_lives.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_PAUSE.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST_PAUSE),
    }
}
