//! Names and labels by which Docker's tools know the containers of tasks. Pure.

use std::collections::BTreeMap;

use weft_wire::swarmkit::Task;

pub(crate) const TASK_LABEL: &str = "com.docker.swarm.task";
pub(crate) const TASK_ID_LABEL: &str = "com.docker.swarm.task.id";

/// The slot; of a task of a global service its node.
pub(crate) fn slot(task: &Task) -> String {
    if task.slot == 0 { task.node_id.clone() } else { task.slot.to_string() }
}

/// `service.slot.id`: the task's name and that of its container.
pub(crate) fn task_name(task: &Task) -> String {
    if let Some(own) = task.annotations.as_ref().filter(|annotations| !annotations.name.is_empty()) {
        return own.name.clone();
    }
    let service = task.service_annotations.as_ref().map_or("", |annotations| &annotations.name);
    format!("{service}.{}.{}", slot(task), task.id)
}

/// The labels of its container: the user's, and the swarm's, which win.
pub(crate) fn labels(task: &Task, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let service = task.service_annotations.as_ref().map_or("", |annotations| &annotations.name);
    let mut labels = own.clone();
    labels.extend([
        (TASK_LABEL.to_owned(), String::new()),
        (TASK_ID_LABEL.to_owned(), task.id.clone()),
        ("com.docker.swarm.task.name".to_owned(), task_name(task)),
        ("com.docker.swarm.node.id".to_owned(), task.node_id.clone()),
        ("com.docker.swarm.service.id".to_owned(), task.service_id.clone()),
        ("com.docker.swarm.service.name".to_owned(), service.to_owned()),
    ]);
    labels
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::Annotations;

    use super::*;

    fn task(slot: u64) -> Task {
        let annotations = Annotations { name: "s1".into(), ..Annotations::default() };
        Task {
            id: "lgjf".into(),
            service_id: "wt5w".into(),
            node_id: "7ygb".into(),
            slot,
            service_annotations: Some(annotations),
            ..Task::default()
        }
    }

    #[test]
    fn names_carry_slot_or_node() {
        assert_eq!(task_name(&task(2)), "s1.2.lgjf");
        assert_eq!(task_name(&task(0)), "s1.7ygb.lgjf");
    }

    #[test]
    fn the_swarms_labels_win() {
        let own = BTreeMap::from([
            ("mine".to_owned(), "1".to_owned()),
            (TASK_ID_LABEL.to_owned(), "forged".to_owned()),
        ]);
        let labels = labels(&task(2), &own);
        assert_eq!((labels["mine"].as_str(), labels[TASK_ID_LABEL].as_str()), ("1", "lgjf"));
        assert_eq!(labels["com.docker.swarm.task.name"], "s1.2.lgjf");
        assert_eq!((labels[TASK_LABEL].as_str(), labels.len()), ("", 7));
    }
}
