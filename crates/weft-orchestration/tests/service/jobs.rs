//! Jobs.

use weft_wire::swarmkit::TaskState;
use weft_wire::swarmkit::node_spec::Availability::{Active, Drain};
use weft_wire::swarmkit::node_status::State::{Down, Ready};
use weft_wire::swarmkit::restart_policy::RestartCondition::{Any, OnFailure};

use crate::world::{World, global_job, replicated_job, seconds, spec, state, with_restart};

fn complete_one(world: &mut World) {
    let running = world.tasks().iter().find(|task| state(task) == TaskState::Running).map(|it| it.id.clone());
    world.report(&running.unwrap(), TaskState::Complete);
    world.settle();
}

fn counts(world: &World) -> (usize, usize) {
    let of = |wanted| world.tasks().iter().filter(|task| state(task) == wanted).count();
    (of(TaskState::Running), of(TaskState::Complete))
}

#[test]
fn a_job_runs_so_many_at_a_time_until_enough_completed() {
    let mut world = World::new(2);
    world.create(spec(replicated_job(5, 2)));
    world.settle();
    assert_eq!(
        world.picture(),
        ["0: running → complete (v1)", "1: running → complete (v1)"].map(|line| line.replacen(
            "0:",
            &format!("{}:", world.tasks()[0].node_id),
            1
        ))
    );
    let mut seen = vec![counts(&world)];
    for _ in 0..5 {
        complete_one(&mut world);
        seen.push(counts(&world));
    }
    assert_eq!(seen, [(2, 0), (2, 1), (2, 2), (2, 3), (1, 4), (0, 5)]);
    world.new_leader();
    world.run(seconds(600));
    assert_eq!(counts(&world), (0, 5));
    let slots: Vec<u64> = world.tasks().iter().map(|task| task.slot).collect();
    assert_eq!(slots, [0, 1, 2, 3, 4]);
}

#[test]
fn a_failed_task_of_a_job_is_tried_again_in_its_slot() {
    let mut world = World::new(1);
    world.create(with_restart(spec(replicated_job(1, 1)), OnFailure, seconds(5), 1, None));
    for _ in 0..2 {
        world.run(seconds(6));
        let running = world.wanted()[0].id.clone();
        world.report(&running, TaskState::Failed);
    }
    world.run(seconds(600));
    assert_eq!(world.tasks().len(), 2);
    assert!(world.wanted().is_empty());
}

#[test]
fn a_jobs_task_moves_from_a_lost_node() {
    let mut world = World::new(2);
    world.create(spec(replicated_job(1, 0)));
    world.settle();
    let node = world.tasks()[0].node_id.clone();
    world.set_node(&node, Down, Active);
    world.settle();
    let moved = world.wanted();
    assert_eq!((moved.len(), moved[0].desired_state()), (1, TaskState::Complete));
    assert_ne!(moved[0].node_id, node);
}

#[test]
fn an_updated_job_runs_again() {
    let mut world = World::new(1);
    world.create(spec(replicated_job(2, 1)));
    world.settle();
    complete_one(&mut world);
    world.update(world.spec());
    world.settle();
    complete_one(&mut world);
    complete_one(&mut world);
    let done = world.tasks().iter().filter(|it| it.job_iteration.unwrap().index == 1).count();
    assert_eq!((done, world.wanted().iter().filter(|it| state(it) == TaskState::Running).count()), (2, 0));
}

#[test]
fn a_global_job_runs_once_on_each_node() {
    let mut world = World::new(2);
    world.create(with_restart(spec(global_job()), Any, seconds(5), 0, None));
    world.settle();
    assert_eq!(counts(&world), (2, 0));
    complete_one(&mut world);
    world.set_node("n3", Ready, Active);
    world.settle();
    assert_eq!(counts(&world), (2, 1));
    complete_one(&mut world);
    complete_one(&mut world);
    // A node that comes back does not run it again.
    world.set_node("n1", Ready, Drain);
    world.settle();
    world.set_node("n1", Ready, Active);
    world.run(seconds(60));
    assert_eq!(counts(&world), (0, 3));
    world.update(world.spec());
    world.settle();
    assert_eq!(counts(&world).0, 3);
}
