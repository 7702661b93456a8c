//! Replicated services: scale, nodes that leave, removal.

use weft_orchestration::{Change, Snapshot};
use weft_wire::swarmkit::node_spec::Availability::{Active, Drain, Pause};
use weft_wire::swarmkit::node_status::State::{Disconnected, Down, Ready};
use weft_wire::swarmkit::{Driver, TaskDefaults, TaskState};

use crate::world::{SERVICE, World, image, replicated, seconds, spec, state};

#[test]
fn a_new_service_gets_all_its_tasks_in_one_look() {
    let mut world = World::new(3);
    let mut cluster = world.store.cluster().map(|it| (**it).clone()).unwrap();
    let fluentd = Driver { name: "fluentd".to_owned(), ..Driver::default() };
    cluster.spec.get_or_insert_default().task_defaults =
        Some(TaskDefaults { log_driver: Some(fluentd.clone()) });
    world.store.put_cluster(cluster);
    world.create(spec(replicated(3)));

    let changes = world.look();

    let created: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::CreateTask(task) => task,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(created.iter().map(|task| task.slot).collect::<Vec<_>>(), [1, 2, 3]);
    let task = created[0];
    assert_eq!(task.annotations.as_ref().unwrap().name, format!("web.1.{}", task.id));
    assert_eq!(task.service_annotations.as_ref().unwrap().name, "web");
    assert_eq!((state(task), task.desired_state()), (TaskState::New, TaskState::Running));
    assert_eq!(task.status.as_ref().unwrap().message, "created");
    assert_eq!((task.service_id.as_str(), task.node_id.as_str()), (SERVICE, ""));
    assert_eq!(task.spec, world.spec().task);
    assert_eq!(task.spec_version, world.service().spec_version);
    assert_eq!(task.log_driver, Some(fluentd));
    assert_eq!((&task.meta, &task.job_iteration), (&None, &None));
    assert!(task.id.len() == 25 && task.id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()));
    assert!(world.look().is_empty());
}

#[test]
fn scaling_down_takes_from_the_fullest_node_what_does_not_run_and_the_highest_number() {
    let mut world = World::new(2);
    world.create(spec(replicated(5)));
    world.settle();
    // n1 has slots 1, 3, 5 and n2 has 2, 4.
    world.scale(3);
    world.reconcile();
    assert_eq!(
        world.picture(),
        [
            "1: running → running (v1)",
            "2: running → running (v1)",
            "3: running → running (v1)",
            "4: running → remove (v1)",
            "5: running → remove (v1)",
        ]
    );
    world.settle();
    assert_eq!(world.picture().len(), 3);

    let third = world.tasks()[2].id.clone();
    world.set_node("n1", Ready, Pause);
    world.report(&third, TaskState::Failed);
    world.scale(2);
    world.reconcile();
    assert_eq!(world.picture(), ["1: running → running (v1)", "2: running → running (v1)"]);
}

#[test]
fn scaling_up_fills_the_lowest_free_numbers() {
    let mut world = World::new(1);
    world.create(spec(replicated(2)));
    world.settle();
    world.scale(4);
    world.settle();
    let slots: Vec<u64> = world.tasks().iter().map(|task| task.slot).collect();
    assert_eq!(slots, [1, 2, 3, 4]);
    // The first two are not replaced although the spec has a new version.
    assert_ne!(world.tasks()[0].spec_version, world.service().spec_version);
    assert_eq!(world.service().update_status, None);
}

#[test]
fn tasks_of_a_down_node_are_replaced_at_once() {
    let mut world = World::new(2);
    world.create(spec(replicated(2)));
    world.settle();
    world.set_node("n1", Down, Active);
    world.look();
    assert_eq!(
        world.picture(),
        ["1: running → shutdown (v1)", "1: new → running (v1)", "2: running → running (v1)"]
    );
    world.settle();
    let on: Vec<String> = world.wanted().iter().map(|task| task.node_id.clone()).collect();
    assert_eq!(on, ["n2", "n2"]);

    // Back again: what was replaced stops, nothing moves back.
    world.set_node("n1", Ready, Active);
    world.settle();
    assert_eq!(
        world.picture(),
        ["1: shutdown → shutdown (v1)", "1: running → running (v1)", "2: running → running (v1)"]
    );
}

#[test]
fn a_disconnected_or_paused_node_keeps_its_tasks() {
    let mut world = World::new(2);
    world.create(spec(replicated(2)));
    world.settle();
    world.set_node("n1", Disconnected, Active);
    world.set_node("n2", Ready, Pause);
    assert!(world.look().is_empty());
}

#[test]
fn tasks_leave_a_drained_node_when_they_have_stopped() {
    let mut world = World::new(2);
    world.create(spec(replicated(2)));
    world.settle();
    world.set_node("n1", Ready, Drain);
    world.reconcile();
    assert_eq!(
        world.picture(),
        ["1: running → shutdown (v1)", "1: new → ready (v1)", "2: running → running (v1)"]
    );
    assert_eq!(world.wake_in(), Some(seconds(60)));
    let old = world.tasks()[0].id.clone();
    world.report(&old, TaskState::Shutdown);
    world.reconcile();
    assert_eq!(world.picture()[1], "1: new → running (v1)");
}

#[test]
fn what_does_not_stop_is_waited_for_a_minute() {
    let mut world = World::new(2);
    world.create(spec(replicated(1)));
    world.settle();
    world.set_node("n1", Ready, Drain);
    world.reconcile();
    world.now += seconds(59);
    world.reconcile();
    assert_eq!(world.picture()[1], "1: new → ready (v1)");
    world.now += seconds(1);
    world.reconcile();
    assert_eq!(world.picture()[1], "1: new → running (v1)");
}

#[test]
fn a_removed_nodes_tasks_are_orphaned_and_replaced() {
    let mut world = World::new(2);
    world.create(spec(replicated(1)));
    world.settle();
    world.store.remove_node("n1");
    world.reconcile();
    assert_eq!(world.picture(), ["1: orphaned → shutdown (v1)", "1: new → running (v1)"]);
}

#[test]
fn tasks_of_a_node_that_is_down_for_a_day_are_orphaned() {
    let mut world = World::new(2);
    world.create(spec(replicated(1)));
    world.settle();
    world.set_node("n1", Down, Active);
    world.settle();
    assert_eq!(world.wake_in(), Some(seconds(24 * 3600)));
    world.now += seconds(24 * 3600 - 1);
    world.reconcile();
    assert_eq!(world.picture()[0], "1: running → shutdown (v1)");
    world.now += seconds(1);
    world.reconcile();
    assert_eq!(world.picture()[0], "1: orphaned → shutdown (v1)");
}

#[test]
fn a_removed_services_tasks_stop_and_go() {
    let mut world = World::new(1);
    world.create(spec(replicated(2)));
    world.settle();
    world.store.remove_service(SERVICE);
    world.look();
    assert_eq!(world.picture(), ["1: running → remove (v1)", "2: running → remove (v1)"]);
    world.settle();
    assert!(world.picture().is_empty());
}

#[test]
fn a_service_that_is_to_go_goes_with_its_last_task() {
    let mut world = World::new(1);
    world.create(spec(replicated(2)));
    world.settle();
    let mut service = world.service();
    service.pending_delete = true;
    world.store.put_service(service);
    world.reconcile();
    let first = world.tasks()[0].id.clone();
    world.report(&first, TaskState::Shutdown);
    world.reconcile();
    assert_eq!(world.picture(), ["2: running → remove (v1)"]);
    assert!(world.store.service(SERVICE).is_some());
    world.settle();
    assert!(world.store.service(SERVICE).is_none() && world.picture().is_empty());
}

#[test]
fn a_new_leader_finds_tasks_of_services_that_are_gone() {
    let mut world = World::new(1);
    world.create(spec(replicated(1)));
    world.settle();
    world.store.remove_service(SERVICE);
    world.store.take_dirty();
    world.new_leader();
    world.settle();
    assert!(world.picture().is_empty());
}

#[test]
fn two_tasks_for_one_slot_become_one() {
    let mut world = World::new(2);
    world.create(spec(replicated(1)));
    world.settle();
    let mut twin = (*world.tasks()[0]).clone();
    twin.id = "twin".to_owned();
    twin.meta = None;
    world.store.put_task(twin);
    world.settle();
    assert_eq!(world.wanted().len(), 1);
    assert_eq!(image(&world.wanted()[0]), "v1");
}

#[test]
fn a_refused_proposal_is_made_again_unasked() {
    let mut world = World::new(1);
    world.create(spec(replicated(2)));
    world.refusals = 1;
    assert_eq!(world.look().len(), 2);
    assert!(world.tasks().is_empty());
    assert_eq!(world.look().len(), 2);
    assert_eq!(world.tasks().len(), 2);
}
