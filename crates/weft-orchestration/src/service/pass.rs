//! One look at one service: its tasks by slot, and what is asked of them.
//!
//! The steps of a look see each other's effects here; only at the end do they become [`Change`]s, one per object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use rand::RngCore;
use weft_wire::swarmkit::{Node, Service, Task, TaskState, TaskStatus};

use super::dirty::is_task_dirty;
use super::new_task::new_task;
use super::running_since::RunningSince;
use super::slot::Slot;
use super::time::{created_at, earlier, state_since};
use crate::{Change, Snapshot};

/// A task and what is to become of it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) task: Cow<'a, Task>,
    is_new: bool,
    pub(super) created: SystemTime,
    pub(super) state: TaskState,
    pub(super) desired: TaskState,
    is_removed: bool,
}

impl<'a> Entry<'a> {
    fn stored(task: &'a Task) -> Self {
        Self {
            task: Cow::Borrowed(task),
            is_new: false,
            created: created_at(task),
            state: task.status.as_ref().map_or(TaskState::New, TaskStatus::state),
            desired: task.desired_state(),
            is_removed: false,
        }
    }

    /// It is to run, now or when started (jobs: to run until it completes).
    pub(super) fn is_wanted(&self) -> bool {
        self.desired <= TaskState::Complete
    }

    /// Nothing runs for it any more.
    pub(super) fn has_ended(&self) -> bool {
        self.state > TaskState::Running
    }

    /// It ended without being told to.
    pub(super) fn ended_itself(&self) -> bool {
        matches!(self.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected)
    }

    /// A node may be running it.
    pub(super) fn may_run(&self) -> bool {
        (TaskState::Assigned..=TaskState::Running).contains(&self.state)
    }

    fn change(self) -> Option<Change> {
        if self.is_new {
            let mut task = self.task.into_owned();
            task.desired_state = self.desired.into();
            return (!self.is_removed).then_some(Change::CreateTask(task));
        }
        if self.is_removed {
            let version = self.task.meta.as_ref().and_then(|meta| meta.version).unwrap_or_default().index;
            return Some(Change::RemoveTask { id: self.task.id.clone(), version });
        }
        let is_edited = matches!(self.task, Cow::Owned(_));
        (is_edited || self.task.desired_state() != self.desired).then(|| {
            let mut task = self.task.into_owned();
            task.desired_state = self.desired.into();
            Change::UpdateTask(task)
        })
    }
}

/// One service at one moment.
pub(super) struct Pass<'a> {
    pub(super) snapshot: &'a dyn Snapshot,
    pub(super) now: SystemTime,
    /// As it will be: steps may replace its spec and update status.
    pub(super) service: Cow<'a, Service>,
    pub(super) tasks: Vec<Entry<'a>>,
    /// Indices of tasks, oldest first.
    pub(super) slots: BTreeMap<Slot, Vec<usize>>,
    /// Since when the tasks of the present update run, as far as seen.
    pub(super) running: RunningSince,
    rng: &'a mut dyn RngCore,
    is_service_removed: bool,
    wake: Option<SystemTime>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        snapshot: &'a dyn Snapshot,
        service: &'a Service,
        running: RunningSince,
        now: SystemTime,
        rng: &'a mut dyn RngCore,
    ) -> Self {
        let tasks: Vec<Entry<'a>> =
            snapshot.tasks_of_service(&service.id).map(|task| Entry::stored(task)).collect();
        let mut slots: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
        for (index, entry) in tasks.iter().enumerate() {
            slots.entry(Slot::of(service, &entry.task)).or_default().push(index);
        }
        for of_slot in slots.values_mut() {
            of_slot.sort_by(|a, b| {
                let key = |index: &usize| (tasks[*index].created, &tasks[*index].task.id);
                key(a).cmp(&key(b))
            });
        }
        Self {
            snapshot,
            now,
            service: Cow::Borrowed(service),
            tasks,
            slots,
            running,
            rng,
            is_service_removed: false,
            wake: None,
        }
    }

    /// The node that the task was given to; none also if it is gone.
    pub(super) fn node_of(&self, index: usize) -> Option<&'a Node> {
        self.snapshot.node(&self.tasks[index].task.node_id).map(|node| &**node)
    }

    /// Tasks of a slot, oldest first.
    pub(super) fn slot(&self, slot: &Slot) -> &[usize] {
        self.slots.get(slot).map_or(&[], Vec::as_slice)
    }

    /// Those of a slot that are to run.
    pub(super) fn wanted(&self, slot: &Slot) -> Vec<usize> {
        self.slot(slot).iter().copied().filter(|index| self.tasks[*index].is_wanted()).collect()
    }

    pub(super) fn is_dirty(&self, index: usize) -> bool {
        let entry = &self.tasks[index];
        is_task_dirty(&self.service, &entry.task, entry.desired, self.node_of(index))
    }

    /// When the task got into its state.
    pub(super) fn state_since(&self, index: usize) -> SystemTime {
        state_since(&self.tasks[index].task, self.now)
    }

    /// Asks more of a task; what was asked before is never taken back.
    pub(super) fn ask(&mut self, index: usize, desired: TaskState) {
        let entry = &mut self.tasks[index];
        entry.desired = entry.desired.max(desired);
    }

    /// Writes down that nobody knows what became of the task.
    pub(super) fn orphan(&mut self, index: usize) {
        let entry = &mut self.tasks[index];
        entry.state = TaskState::Orphaned;
        let status = entry.task.to_mut().status.get_or_insert_default();
        status.state = TaskState::Orphaned.into();
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.tasks[index].is_removed = true;
    }

    pub(super) fn is_removed(&self, index: usize) -> bool {
        self.tasks[index].is_removed
    }

    pub(super) fn remove_service(&mut self) {
        self.is_service_removed = true;
    }

    /// A new task of the service's present spec.
    pub(super) fn create(&mut self, slot: &Slot, desired: TaskState) {
        let cluster = self.snapshot.cluster().map(|cluster| &**cluster);
        let task = new_task(&self.service, cluster, slot, desired, self.now, &mut *self.rng);
        self.slots.entry(slot.clone()).or_default().push(self.tasks.len());
        self.tasks.push(Entry {
            task: Cow::Owned(task),
            is_new: true,
            created: self.now,
            state: TaskState::New,
            desired,
            is_removed: false,
        });
    }

    /// Asks for another look at that time.
    pub(super) fn look_again(&mut self, at: SystemTime) {
        self.wake = earlier(self.wake, Some(at));
    }

    /// What the steps came to.
    pub(super) fn finish(self, out: &mut Vec<Change>) -> (Option<SystemTime>, RunningSince) {
        if let (Cow::Owned(service), false) = (&self.service, self.is_service_removed) {
            out.push(Change::UpdateService(service.clone()));
        }
        out.extend(self.tasks.into_iter().filter_map(Entry::change));
        if self.is_service_removed {
            let version = self.service.meta.as_ref().and_then(|meta| meta.version).unwrap_or_default().index;
            out.push(Change::RemoveService { id: self.service.id.clone(), version });
        }
        (self.wake, self.running)
    }
}
