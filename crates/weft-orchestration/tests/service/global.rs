//! Global services.

use weft_wire::swarmkit::node_spec::Availability::{Active, Drain, Pause};
use weft_wire::swarmkit::node_status::State::{Disconnected, Down, Ready};
use weft_wire::swarmkit::{Placement, TaskState};

use crate::world::{World, global, seconds, spec, with_image};

fn running_everywhere() -> World {
    let mut world = World::new(2);
    world.create(spec(global()));
    world.settle();
    assert_eq!(world.picture(), ["n1: running → running (v1)", "n2: running → running (v1)"]);
    world
}

#[test]
fn each_node_gets_one_named_after_it() {
    let mut world = running_everywhere();
    let task = world.tasks()[0].clone();
    assert_eq!(task.annotations.as_ref().unwrap().name, format!("web.n1.{}", task.id));
    assert_eq!(task.slot, 0);
    world.set_node("n3", Ready, Active);
    world.set_node("n4", Ready, Pause);
    world.set_node("n5", Down, Active);
    world.settle();
    assert_eq!(world.wanted().len(), 3);
    world.set_node("n4", Ready, Active);
    world.set_node("n5", Ready, Active);
    world.settle();
    assert_eq!(world.wanted().len(), 5);
}

#[test]
fn a_node_that_leaves_and_comes_back() {
    for (state, availability) in [(Down, Active), (Ready, Drain)] {
        let mut world = running_everywhere();
        world.set_node("n1", state, availability);
        world.look();
        assert_eq!(world.picture(), ["n1: running → shutdown (v1)", "n2: running → running (v1)"]);
        world.settle();
        assert_eq!(world.wanted().len(), 1);
        world.set_node("n1", Ready, Active);
        world.settle();
        assert_eq!(
            world.picture(),
            ["n1: shutdown → shutdown (v1)", "n1: running → running (v1)", "n2: running → running (v1)"]
        );
    }
}

#[test]
fn on_a_node_that_came_back_the_old_task_stops_before_the_new_one_starts() {
    let mut world = running_everywhere();
    world.set_node("n1", Down, Active);
    world.settle();
    world.set_node("n1", Ready, Active);
    world.reconcile();
    assert_eq!(world.picture()[..2], ["n1: running → shutdown (v1)", "n1: new → ready (v1)"]);
    world.settle();
    assert_eq!(world.picture()[..2], ["n1: shutdown → shutdown (v1)", "n1: running → running (v1)"]);
}

#[test]
fn a_disconnected_node_keeps_its_task_and_a_removed_one_takes_it_along() {
    let mut world = running_everywhere();
    world.set_node("n1", Disconnected, Active);
    assert!(world.look().is_empty());
    world.store.remove_node("n1");
    world.reconcile();
    assert_eq!(world.picture(), ["n2: running → running (v1)"]);
}

#[test]
fn constraints_move_tasks_off_and_on() {
    let mut world = running_everywhere();
    let mut wanted = world.spec();
    wanted.task.get_or_insert_default().placement =
        Some(Placement { constraints: vec!["node.id==n2".to_owned()], ..Placement::default() });
    world.update(wanted);
    world.run(seconds(30));
    // The one that fits is not replaced.
    assert_eq!(world.picture(), ["n1: shutdown → shutdown (v1)", "n2: running → running (v1)"]);
    assert_eq!(world.service().update_status, None);
}

#[test]
fn a_paused_node_is_neither_updated_nor_restarted() {
    let mut world = running_everywhere();
    world.set_node("n1", Ready, Pause);
    world.update(with_image(world.spec(), "v2"));
    world.run(seconds(60));
    assert_eq!(
        world.picture(),
        ["n1: running → running (v1)", "n2: shutdown → shutdown (v1)", "n2: running → running (v2)"]
    );
    let paused = world.tasks()[0].id.clone();
    world.report(&paused, TaskState::Failed);
    world.run(seconds(60));
    assert_eq!(world.picture()[0], "n1: failed → shutdown (v1)");
    world.set_node("n1", Ready, Active);
    world.run(seconds(60));
    assert_eq!(world.picture()[1], "n1: running → running (v2)");
}
