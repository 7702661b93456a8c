//! What the dispatcher has assigned to this node, kept in step with its stream.
//!
//! Invariant: the content is exactly what the messages up to `at` say. A message that does not fit is refused and
//! changes nothing; the caller then opens a new stream, whose first message is complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_wire::swarmkit::assignment::Item;
use weft_wire::swarmkit::assignment_change::AssignmentAction;
use weft_wire::swarmkit::assignments_message::Type;
use weft_wire::swarmkit::{AssignmentsMessage, Config, Secret, Task};

/// A message that does not continue the one before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("assignments continue from {found:?}, expected {expected:?}")]
pub(crate) struct Gap {
    expected: Option<String>,
    found: String,
}

/// What a message changed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TaskChanges {
    /// New, or different from before.
    pub(crate) updated: Vec<Arc<Task>>,
    /// Ids of tasks that are no longer ours.
    pub(crate) removed: Vec<String>,
}

/// The present assignments.
#[derive(Debug, Default)]
pub(crate) struct Assignments {
    tasks: BTreeMap<String, Arc<Task>>,
    secrets: BTreeMap<String, Secret>,
    configs: BTreeMap<String, Config>,
    /// `results_in` of the last message of this stream.
    at: Option<String>,
    /// The managers have said all of it at least once: what is not here is not ours.
    complete: bool,
}

impl Assignments {
    /// What was known before a restart; the first message of the stream will complete or correct it.
    pub(crate) fn restored(tasks: impl IntoIterator<Item = Task>) -> Self {
        let tasks = tasks.into_iter().map(|task| (task.id.clone(), Arc::new(task))).collect();
        Self { tasks, ..Self::default() }
    }

    /// A new stream begins: its first message must be complete.
    pub(crate) fn begin_stream(&mut self) {
        self.at = None;
    }

    /// Present tasks by id.
    pub(crate) fn tasks(&self) -> &BTreeMap<String, Arc<Task>> {
        &self.tasks
    }

    pub(crate) fn secret(&self, id: &str) -> Option<&Secret> {
        self.secrets.get(id)
    }

    pub(crate) fn config(&self, id: &str) -> Option<&Config> {
        self.configs.get(id)
    }

    /// Whether the managers have said all of it at least once in this life.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes one message over.
    pub(crate) fn apply(&mut self, message: AssignmentsMessage) -> Result<TaskChanges, Gap> {
        let complete = message.r#type() == Type::Complete;
        if !complete && self.at.as_deref() != Some(&message.applies_to) {
            return Err(Gap { expected: self.at.clone(), found: message.applies_to });
        }
        let before = if complete { std::mem::take(&mut self.tasks) } else { BTreeMap::new() };
        if complete {
            self.secrets.clear();
            self.configs.clear();
        }
        self.complete |= complete;
        self.at = Some(message.results_in.clone());
        let mut changes = TaskChanges::default();
        for change in message.changes {
            let action = change.action();
            let Some(item) = change.assignment.and_then(|assignment| assignment.item) else { continue };
            match action {
                AssignmentAction::Update => self.update(item, &before, &mut changes),
                AssignmentAction::Remove => self.remove(item, &mut changes),
            }
        }
        let gone = before.into_keys().filter(|id| !self.tasks.contains_key(id));
        changes.removed.extend(gone);
        Ok(changes)
    }

    fn update(&mut self, item: Item, before: &BTreeMap<String, Arc<Task>>, changes: &mut TaskChanges) {
        match item {
            Item::Task(task) => {
                let known = before.get(&task.id).or_else(|| self.tasks.get(&task.id));
                // One that is the same stays the same object: whoever compares sees that nothing changed.
                let task = match known.filter(|known| ***known == task) {
                    Some(known) => known.clone(),
                    None => {
                        let task = Arc::new(task);
                        changes.updated.push(task.clone());
                        task
                    }
                };
                self.tasks.insert(task.id.clone(), task);
            }
            Item::Secret(secret) => drop(self.secrets.insert(secret.id.clone(), secret)),
            Item::Config(config) => drop(self.configs.insert(config.id.clone(), config)),
            // Cluster volumes (CSI) are not supported; no such plugin is announced, so none is assigned.
            Item::Volume(_) => {}
        }
    }

    fn remove(&mut self, item: Item, changes: &mut TaskChanges) {
        match item {
            Item::Task(task) => {
                if self.tasks.remove(&task.id).is_some() {
                    changes.removed.push(task.id);
                }
            }
            Item::Secret(secret) => drop(self.secrets.remove(&secret.id)),
            Item::Config(config) => drop(self.configs.remove(&config.id)),
            Item::Volume(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::{Assignment, AssignmentChange};

    use super::*;

    fn task(id: &str, desired_state: i32) -> Task {
        Task { id: id.to_owned(), desired_state, ..Task::default() }
    }

    fn change(action: AssignmentAction, task: Task) -> AssignmentChange {
        AssignmentChange {
            assignment: Some(Assignment { item: Some(Item::Task(task)) }),
            action: action.into(),
        }
    }

    fn message(kind: Type, from: &str, to: &str, changes: Vec<AssignmentChange>) -> AssignmentsMessage {
        AssignmentsMessage { r#type: kind.into(), applies_to: from.into(), results_in: to.into(), changes }
    }

    fn update(id: &str, desired: i32) -> AssignmentChange {
        change(AssignmentAction::Update, task(id, desired))
    }

    fn remove(id: &str) -> AssignmentChange {
        change(AssignmentAction::Remove, task(id, 0))
    }

    #[test]
    fn complete_then_incremental() {
        let mut assignments = Assignments::default();
        let changes = assignments
            .apply(message(Type::Complete, "", "1", vec![update("a", 512), update("b", 512)]))
            .unwrap();
        assert_eq!(changes.updated.len(), 2);
        let changes = assignments
            .apply(message(Type::Incremental, "1", "2", vec![update("a", 800), remove("b")]))
            .unwrap();
        assert_eq!(
            changes,
            TaskChanges { updated: vec![Arc::new(task("a", 800))], removed: vec!["b".into()] }
        );
        assert_eq!(assignments.tasks().keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_gap_is_refused_and_changes_nothing() {
        let mut assignments = Assignments::default();
        assert!(
            assignments.apply(message(Type::Incremental, "1", "2", vec![])).is_err(),
            "must begin complete"
        );
        assignments.apply(message(Type::Complete, "", "1", vec![update("a", 512)])).unwrap();
        let error = assignments.apply(message(Type::Incremental, "2", "3", vec![remove("a")])).unwrap_err();
        assert_eq!(error.expected.as_deref(), Some("1"));
        assert!(assignments.tasks().contains_key("a"));
        // A repeated message is a gap, too.
        assignments.apply(message(Type::Incremental, "1", "2", vec![])).unwrap();
        assert!(assignments.apply(message(Type::Incremental, "1", "2", vec![])).is_err());
    }

    #[test]
    fn complete_forgets_what_it_does_not_list_and_names_only_differences() {
        let mut assignments =
            Assignments::restored([task("old", 512), task("same", 512), task("changed", 512)]);
        let listed = vec![update("same", 512), update("changed", 640), update("new", 512)];
        let changes = assignments.apply(message(Type::Complete, "", "7", listed)).unwrap();
        assert_eq!(changes.removed, ["old"]);
        assert_eq!(changes.updated, [Arc::new(task("changed", 640)), Arc::new(task("new", 512))]);
        assignments.begin_stream();
        assert!(assignments.apply(message(Type::Incremental, "7", "8", vec![])).is_err());
    }
}
