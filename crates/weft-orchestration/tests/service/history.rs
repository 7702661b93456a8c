//! What is remembered of tasks.

use weft_wire::swarmkit::TaskState;

use crate::world::{World, replicated, seconds, spec};

fn fail_all(world: &mut World) {
    for task in world.wanted() {
        world.report(&task.id, TaskState::Failed);
    }
    world.run(seconds(10));
}

#[test]
fn a_slot_keeps_as_many_tasks_as_the_swarm_says() {
    let mut world = World::new(1);
    world.create(spec(replicated(2)));
    world.settle();
    for _ in 0..8 {
        fail_all(&mut world);
    }
    let of_slot = |world: &World, slot| world.tasks().iter().filter(|task| task.slot == slot).count();
    assert_eq!((of_slot(&world, 1), of_slot(&world, 2)), (5, 5));
    world.history_limit(2);
    world.reconcile();
    assert_eq!((of_slot(&world, 1), of_slot(&world, 2)), (2, 2));
    assert_eq!(world.wanted().len(), 2);
}

#[test]
fn without_history_only_what_decides_is_kept() {
    let mut world = World::new(1);
    world.history_limit(0);
    world.create(spec(replicated(1)));
    world.settle();
    let first = world.tasks()[0].id.clone();
    world.report(&first, TaskState::Failed);
    world.settle();
    // Else nobody would know that there is a delay.
    assert_eq!(world.picture(), ["1: failed → shutdown (v1)", "1: ready → ready (v1)"]);
    world.run(seconds(5));
    assert_eq!(world.picture(), ["1: running → running (v1)"]);
}

#[test]
fn a_negative_limit_keeps_everything() {
    let mut world = World::new(1);
    world.history_limit(-1);
    world.create(spec(replicated(1)));
    world.settle();
    for _ in 0..20 {
        fail_all(&mut world);
    }
    assert_eq!(world.tasks().len(), 21);
}
