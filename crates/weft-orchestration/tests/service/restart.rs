//! Restart policies.

use weft_wire::swarmkit::TaskState;
use weft_wire::swarmkit::restart_policy::RestartCondition::{Any, None as Never, OnFailure};
use weft_wire::swarmkit::{ServiceSpec, restart_policy::RestartCondition};

use crate::world::{World, replicated, seconds, spec, with_restart};

fn one(condition: RestartCondition, max_attempts: u64) -> ServiceSpec {
    with_restart(spec(replicated(1)), condition, seconds(5), max_attempts, None)
}

/// The newest task's end is reported.
fn end(world: &mut World, state: TaskState) {
    let newest = world.tasks().last().map(|task| task.id.clone()).unwrap();
    world.report(&newest, state);
    world.reconcile();
}

#[test]
fn by_default_what_ended_is_prepared_again_at_once_and_started_after_five_seconds() {
    for ended in [TaskState::Complete, TaskState::Failed] {
        let mut world = World::new(1);
        world.create(spec(replicated(1)));
        world.settle();
        end(&mut world, ended);
        let was = ended.as_str_name().to_lowercase();
        assert_eq!(world.picture(), [format!("1: {was} → shutdown (v1)"), "1: new → ready (v1)".to_owned()]);
        assert_eq!(world.wake_in(), Some(seconds(5)));
        world.settle();
        world.now += seconds(4);
        world.settle();
        assert_eq!(world.picture()[1], "1: ready → ready (v1)");
        // A new leader goes on, it does not begin again.
        world.new_leader();
        world.settle();
        assert_eq!(world.wake_in(), Some(seconds(1)));
        world.now += seconds(1);
        world.settle();
        assert_eq!(world.picture()[1], "1: running → running (v1)");
    }
}

#[test]
fn what_cannot_be_prepared_is_tried_once_per_delay() {
    let mut world = World::new(1);
    world.create(spec(replicated(1)));
    world.reconcile();
    world.place();
    end(&mut world, TaskState::Rejected);
    world.now += seconds(1);
    world.place();
    end(&mut world, TaskState::Rejected);
    assert_eq!(world.picture(), ["1: rejected → shutdown (v1)", "1: rejected → ready (v1)"]);
    assert_eq!(world.wake_in(), Some(seconds(4)));
    world.now += seconds(4);
    world.reconcile();
    assert_eq!(
        world.picture(),
        ["1: rejected → shutdown (v1)", "1: rejected → shutdown (v1)", "1: new → ready (v1)"]
    );
}

#[test]
fn conditions() {
    for (condition, ended, restarted) in [
        (Never, TaskState::Failed, false),
        (Never, TaskState::Complete, false),
        (OnFailure, TaskState::Failed, true),
        (OnFailure, TaskState::Rejected, true),
        (OnFailure, TaskState::Complete, false),
        (Any, TaskState::Complete, true),
    ] {
        let mut world = World::new(1);
        world.create(one(condition, 0));
        world.settle();
        end(&mut world, ended);
        assert_eq!(world.tasks().len() == 2, restarted, "{condition:?} {ended:?}");
        world.run(seconds(60));
        assert_eq!(world.wanted().len() == 1, restarted, "{condition:?} {ended:?}");
        // It is done, not missing.
        world.new_leader();
        world.run(seconds(60));
        assert_eq!(world.tasks().len() == 2, restarted, "{condition:?} {ended:?}");
    }
}

#[test]
fn attempts_are_counted_in_the_store() {
    let mut world = World::new(1);
    world.history_limit(0);
    world.create(one(Any, 2));
    for attempt in 0..3 {
        world.run(seconds(10));
        assert_eq!(world.wanted().len(), 1, "attempt {attempt}");
        world.new_leader();
        end(&mut world, TaskState::Failed);
    }
    world.run(seconds(100));
    assert_eq!(world.picture(), ["1: failed → shutdown (v1)"; 3]);

    // A new spec has attempts of its own.
    let image = crate::world::with_image(world.spec(), "v2");
    world.update(image);
    world.run(seconds(10));
    assert_eq!(world.wanted().len(), 1);
}

#[test]
fn attempts_before_the_window_do_not_count() {
    let mut world = World::new(1);
    world.create(with_restart(spec(replicated(1)), Any, seconds(5), 2, Some(seconds(60))));
    for _ in 0..6 {
        world.run(seconds(40));
        assert_eq!(world.wanted().len(), 1);
        end(&mut world, TaskState::Failed);
    }
    for _ in 0..2 {
        world.run(seconds(6));
        end(&mut world, TaskState::Failed);
    }
    world.run(seconds(1000));
    assert!(world.wanted().is_empty());
}

#[test]
fn a_clock_that_was_set_back_delays_nothing() {
    let mut world = World::new(1);
    world.create(spec(replicated(1)));
    world.settle();
    end(&mut world, TaskState::Failed);
    world.now -= seconds(3600);
    world.settle();
    assert_eq!(world.picture()[1], "1: running → running (v1)");
}

#[test]
fn a_clock_that_was_set_back_hurries_nothing() {
    let mut world = World::new(1);
    world.history_limit(1);
    world.create(one(Any, 0));
    world.settle();
    world.now -= seconds(3600);
    let broken = crate::world::with_image(world.spec(), "broken");
    world.update(broken);
    world.settle();
    // Its first try failed, the second waits, although the first task of the slot seems to be the newest.
    assert_eq!(world.wanted().len(), 1);
    assert_eq!(world.wanted()[0].desired_state(), TaskState::Ready);
    assert_eq!(world.wake_in(), Some(seconds(5)));
}

#[test]
fn no_delay_is_no_delay_for_what_ran_and_a_growing_one_for_what_comes_to_nothing() {
    let millis = std::time::Duration::from_millis;
    let mut world = World::new(1);
    world.create(with_restart(spec(replicated(1)), Any, seconds(0), 0, None));
    world.settle();
    world.now += seconds(20);
    end(&mut world, TaskState::Failed);
    world.settle();
    assert_eq!(world.wanted()[0].desired_state(), TaskState::Running, "it had run for a while");

    // The slot remembers four that ended.
    for pause in [100, 200, 400, 800, 800, 800] {
        end(&mut world, TaskState::Failed);
        world.settle();
        world.now += millis(pause - 1);
        world.settle();
        assert_eq!(world.wanted()[0].desired_state(), TaskState::Ready, "{pause}");
        world.now += millis(1);
        world.settle();
        assert_eq!(world.wanted()[0].desired_state(), TaskState::Running);
    }
    world.now += seconds(20);
    end(&mut world, TaskState::Failed);
    world.settle();
    assert_eq!(world.wanted()[0].desired_state(), TaskState::Running, "all is forgiven");
}

#[test]
fn a_delay_of_a_second_stays_one() {
    let mut world = World::new(1);
    world.create(with_restart(spec(replicated(1)), Any, seconds(1), 0, None));
    world.settle();
    for _ in 0..8 {
        end(&mut world, TaskState::Failed);
        world.settle();
        assert_eq!(world.wake_in(), Some(seconds(1)));
        world.now += seconds(1);
        world.settle();
    }
}
