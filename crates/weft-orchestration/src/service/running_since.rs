//! Since when the tasks of a running update run.
//!
//! A task's status tells only since when it is in its present state, so whether a task that failed had run for
//! long is remembered here. A new leader does without and judges by the task's age.

use std::collections::HashMap;
use std::time::SystemTime;

/// What was seen of tasks, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RunningSince(HashMap<String, Option<SystemTime>>);

/// What is known of a task's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// It was seen before it ran, and never running.
    Never,
    /// It ran at this time.
    At(SystemTime),
    /// It was not seen before it ended.
    Unknown,
}

impl RunningSince {
    pub(super) fn saw_waiting(&mut self, task: &str) {
        self.0.entry(task.to_owned()).or_insert(None);
    }

    /// The first sighting counts: nodes report again what runs.
    pub(super) fn saw_running(&mut self, task: &str, since: SystemTime) {
        self.0.entry(task.to_owned()).or_insert(None).get_or_insert(since);
    }

    pub(super) fn start_of(&self, task: &str) -> Start {
        match self.0.get(task) {
            None => Start::Unknown,
            Some(None) => Start::Never,
            Some(Some(since)) => Start::At(*since),
        }
    }

    pub(super) fn keep(&mut self, mut is_there: impl FnMut(&str) -> bool) {
        self.0.retain(|task, _| is_there(task));
    }

    pub(super) fn clear(&mut self) {
        self.0 = HashMap::new();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
