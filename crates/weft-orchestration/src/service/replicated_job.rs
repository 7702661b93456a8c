//! So many tasks that complete, a few at a time.

use weft_wire::swarmkit::{ReplicatedJob, TaskState};

use super::new_task::job_iteration;
use super::pass::Pass;
use super::slot::Slot;

/// How far a slot of a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing was tried, or what was tried was stopped and may be tried again.
    Open,
    Running,
    Complete,
    /// It failed as often as its policy allows.
    GaveUp,
}

impl Pass<'_> {
    pub(super) fn replicated_job(&mut self, job: ReplicatedJob) {
        self.end_older_iterations();
        let slots: Vec<Slot> = self.slots.keys().cloned().collect();
        for slot in &slots {
            self.restart_job(slot);
        }
        let count =
            |wanted: Progress| slots.iter().filter(|slot| self.progress(slot) == wanted).count() as u64;
        let running = count(Progress::Running);
        let settled = count(Progress::Complete) + count(Progress::GaveUp) + running;
        // Docker asks for as many at once as are wanted altogether if the user does not say.
        let at_once = if job.max_concurrent == 0 { job.total_completions } else { job.max_concurrent };
        let left = job.total_completions.saturating_sub(settled);
        let new = at_once.saturating_sub(running).min(left);
        let is_open = |slot: &Slot| self.progress(slot) == Progress::Open;
        let open = (0..job.total_completions).map(Slot::Number).filter(is_open);
        let open: Vec<Slot> = open.take(usize::try_from(new).unwrap_or(usize::MAX)).collect();
        for slot in &open {
            self.create(slot, TaskState::Complete);
        }
        self.start_ready();
        self.orphan_lost();
        self.reap();
    }

    /// Stops what an earlier run of the job left running.
    pub(super) fn end_older_iterations(&mut self) {
        for index in 0..self.tasks.len() {
            if self.is_of_this_iteration(index) {
                continue;
            }
            let entry = &self.tasks[index];
            if !entry.has_ended() {
                self.ask(index, TaskState::Remove);
            } else if entry.state != TaskState::Complete {
                self.ask(index, TaskState::Shutdown);
            }
        }
    }

    /// What was moved to another node may complete on the old one all the same; once is enough.
    pub(super) fn restart_job(&mut self, slot: &Slot) {
        if self.progress(slot) == Progress::Complete {
            self.stop_slot(slot);
        } else {
            self.restart_slot(slot);
        }
    }

    /// Stops what did not complete.
    pub(super) fn stop_slot(&mut self, slot: &Slot) {
        for index in self.wanted(slot) {
            if self.tasks[index].state != TaskState::Complete {
                self.ask(index, TaskState::Shutdown);
            }
        }
    }

    pub(super) fn progress(&self, slot: &Slot) -> Progress {
        let current = self.slot(slot).iter().copied().filter(|index| self.is_of_this_iteration(*index));
        let mut newest = None;
        for index in current {
            let entry = &self.tasks[index];
            if entry.state == TaskState::Complete {
                return Progress::Complete;
            }
            newest = Some(index);
            if entry.is_wanted() {
                return Progress::Running;
            }
        }
        match newest {
            Some(newest)
                if self.tasks[newest].desired != TaskState::Remove && !self.should_restart(slot, newest) =>
            {
                Progress::GaveUp
            }
            _ => Progress::Open,
        }
    }

    fn is_of_this_iteration(&self, index: usize) -> bool {
        self.tasks[index].task.job_iteration.unwrap_or_default() == job_iteration(&self.service)
    }
}
