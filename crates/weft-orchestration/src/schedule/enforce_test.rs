use weft_wire::swarmkit::{Task, TaskSpec, TaskState, node_spec::Availability};

use super::test_objects::*;
use crate::enforce;
use crate::testing::TestCluster;

fn ids(tasks: &[Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.id.as_str()).collect()
}

fn enforced(cluster: &TestCluster) -> Vec<Task> {
    enforce(cluster, ["a"], at(5))
}

#[test]
fn a_task_whose_nodes_label_went_is_rejected() {
    let mut cluster = cluster([with_label(node("a"), "zone", "x")]);
    let spec = constrained(&["node.labels.zone==x"]);
    cluster.put_service(service("web", spec.clone()));
    cluster.put_task(running(task("web", 1, spec.clone()), "a"));
    assert!(enforced(&cluster).is_empty());
    cluster.put_node(node("a"));
    let rejected = enforced(&cluster);
    assert_eq!(ids(&rejected), ["web-0001"]);
    let status = rejected[0].status.as_ref().unwrap();
    assert_eq!(
        (status.state(), status.message.as_str(), status.err.as_str(), status.timestamp),
        (
            TaskState::Rejected,
            "task rejected by constraint enforcer",
            "assigned node no longer meets constraints",
            Some(at(5).into())
        )
    );
    assert_eq!(rejected[0].desired_state, TaskState::Running as i32, "that is the loops' to write");
    assert!(enforce(&cluster, ["gone"], at(5)).is_empty());
}

/// A task's own constraints may be out of date: a change of nothing else replaces no task that still fits.
#[test]
fn the_services_constraints_count_and_not_the_tasks() {
    let mut cluster = cluster([node("a")]);
    cluster.put_service(service("web", constrained(&["node.id==b"])));
    cluster.put_task(running(task("web", 1, TaskSpec::default()), "a"));
    cluster.put_service(service("db", TaskSpec::default()));
    cluster.put_task(running(task("db", 1, constrained(&["node.id==b"])), "a"));
    cluster.put_task(running(task("orphan", 1, constrained(&["node.id==b"])), "a"));
    assert_eq!(ids(&enforced(&cluster)), ["orphan-0001", "web-0001"]);
}

#[test]
fn the_last_to_come_leave_a_node_that_became_smaller() {
    let mut cluster = cluster([node("a")]);
    for slot in [3, 1, 2] {
        cluster.set_now(at(10 - slot));
        cluster.put_task(running(task("web", slot, reserving(CPU, 0)), "a"));
    }
    assert!(enforced(&cluster).is_empty());
    let mut smaller = node("a");
    smaller.description.as_mut().unwrap().resources.as_mut().unwrap().nano_cpus = 2 * CPU;
    cluster.put_node(smaller);
    assert_eq!(ids(&enforced(&cluster)), ["web-0001"]);
    let mut unknown = node("a");
    unknown.description = None;
    cluster.put_node(unknown);
    assert!(enforced(&cluster).is_empty(), "not known is not none");
}

#[test]
fn what_does_not_run_and_what_is_not_to_be_touched_stays() {
    let spec = constrained(&["node.id==b"]);
    let mut cluster = cluster([node("a")]);
    cluster.put_task(in_state(task("web", 1, spec.clone()), "a", TaskState::Pending));
    cluster.put_task(in_state(task("web", 2, spec.clone()), "a", TaskState::Complete));
    let mut going = running(task("web", 3, spec.clone()), "a");
    going.desired_state = TaskState::Shutdown.into();
    cluster.put_task(going);
    assert!(enforced(&cluster).is_empty());
    cluster.put_task(running(task("web", 4, spec), "a"));
    for availability in [Availability::Pause, Availability::Drain] {
        let mut node = node("a");
        node.spec.as_mut().unwrap().availability = availability.into();
        cluster.put_node(node);
        assert!(enforced(&cluster).is_empty());
    }
}
