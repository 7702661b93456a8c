//! Rolling updates and rollbacks.

use weft_wire::swarmkit::update_config::{FailureAction, UpdateOrder};
use weft_wire::swarmkit::update_status::UpdateState;
use weft_wire::swarmkit::{
    EndpointSpec, NetworkAttachmentConfig, PortConfig, ServiceSpec, TaskState, UpdateConfig,
};

use crate::world::{World, image, replicated, seconds, spec, state, stored, with_image, with_update};

fn rules(parallelism: u64, order: UpdateOrder, action: FailureAction) -> UpdateConfig {
    UpdateConfig {
        parallelism,
        order: order.into(),
        failure_action: action.into(),
        monitor: stored(seconds(5)),
        ..UpdateConfig::default()
    }
}

fn world_with(replicas: u64, rules: UpdateConfig) -> World {
    let mut world = World::new(3);
    world.create(with_update(spec(replicated(replicas)), rules));
    world.settle();
    world
}

fn running(world: &World, of_image: &str) -> usize {
    let is = |task: &weft_wire::swarmkit::Task| state(task) == TaskState::Running && image(task) == of_image;
    world.wanted().iter().filter(|task| is(task)).count()
}

#[test]
fn stop_first_prepares_the_new_task_while_the_old_one_stops() {
    let mut world = world_with(2, rules(1, UpdateOrder::StopFirst, FailureAction::Pause));
    world.update(with_image(world.spec(), "v2"));
    world.reconcile();
    assert_eq!(world.update_state(), (UpdateState::Updating, "update in progress".to_owned()));
    assert!(world.service().update_status.unwrap().started_at.is_some());
    assert_eq!(
        world.picture(),
        ["1: running → shutdown (v1)", "1: new → ready (v2)", "2: running → running (v1)"]
    );
    let old = world.tasks()[0].id.clone();
    world.report(&old, TaskState::Shutdown);
    world.reconcile();
    assert_eq!(world.picture()[1], "1: new → running (v2)");

    world.settle();
    assert_eq!((running(&world, "v1"), running(&world, "v2")), (0, 2));
    assert_eq!(world.update_state().0, UpdateState::Updating);
    assert_eq!(world.wake_in(), Some(seconds(5)));
    world.run(seconds(5));
    assert_eq!(world.update_state(), (UpdateState::Completed, "update completed".to_owned()));
    assert!(world.service().update_status.unwrap().completed_at.is_some());
    assert!(world.look().is_empty());
}

#[test]
fn start_first_keeps_the_old_task_until_the_new_one_runs() {
    let mut world = world_with(2, rules(1, UpdateOrder::StartFirst, FailureAction::Pause));
    world.update(with_image(world.spec(), "v2"));
    world.reconcile();
    assert_eq!(
        world.picture(),
        ["1: running → running (v1)", "1: new → running (v2)", "2: running → running (v1)"]
    );
    world.place();
    let new = world.tasks()[1].id.clone();
    world.report(&new, TaskState::Running);
    world.reconcile();
    assert_eq!(world.picture()[0], "1: running → shutdown (v1)");
    world.run(seconds(30));
    assert_eq!((running(&world, "v1"), running(&world, "v2")), (0, 2));
    assert_eq!(world.update_state().0, UpdateState::Completed);
}

#[test]
fn parallelism_and_delay_pace_the_update() {
    let mut config = rules(2, UpdateOrder::StopFirst, FailureAction::Pause);
    config.delay = stored(seconds(10));
    let mut world = world_with(5, config);
    world.update(with_image(world.spec(), "v2"));
    let mut progress = Vec::new();
    for _ in 0..3 {
        world.settle();
        progress.push(running(&world, "v2"));
        world.new_leader();
        world.run(seconds(9));
        progress.push(running(&world, "v2"));
        world.now += seconds(1);
    }
    assert_eq!(progress, [2, 2, 4, 4, 5, 5]);
    // Delay and one second more than it, since the delay is longer than the monitoring period.
    assert_eq!(world.update_state().0, UpdateState::Updating);
    world.run(seconds(11));
    assert_eq!(world.update_state().0, UpdateState::Completed);
}

#[test]
fn a_parallelism_of_zero_is_all_at_once() {
    let mut world = world_with(4, rules(0, UpdateOrder::StopFirst, FailureAction::Pause));
    world.update(with_image(world.spec(), "v2"));
    world.look();
    assert_eq!(world.tasks().len(), 8);
}

#[test]
fn an_early_failure_pauses_the_update() {
    let mut world = world_with(3, rules(1, UpdateOrder::StopFirst, FailureAction::Pause));
    world.update(with_image(world.spec(), "broken"));
    world.run(seconds(100));
    let failed = world.tasks().into_iter().find(|task| image(task) == "broken").unwrap();
    // The history may have forgotten it by now, so only the words before are compared then.
    let (state, message) = world.update_state();
    assert_eq!(state, UpdateState::Paused);
    assert!(message.starts_with("update paused due to failure or early termination of task "), "{message}");
    assert!(failed.id.len() == 25);
    assert_eq!(running(&world, "v1"), 2);
    // Other settings do not set it going, another image does.
    world.update(with_image(world.spec(), "v3"));
    world.run(seconds(100));
    assert_eq!((running(&world, "v3"), world.update_state().0), (3, UpdateState::Completed));
}

#[test]
fn a_failure_within_the_monitoring_period_counts_and_a_later_one_does_not() {
    for (age, expected) in [(4, UpdateState::Paused), (6, UpdateState::Updating)] {
        let mut config = rules(1, UpdateOrder::StopFirst, FailureAction::Pause);
        config.delay = stored(seconds(30));
        let mut world = world_with(2, config);
        world.update(with_image(world.spec(), "v2"));
        world.settle();
        world.run(seconds(age));
        let new = world.tasks().into_iter().find(|task| image(task) == "v2").unwrap();
        world.report(&new.id, TaskState::Failed);
        world.reconcile();
        let (state, message) = world.update_state();
        assert_eq!(state, expected, "after {age} s");
        if state == UpdateState::Paused {
            let words = "update paused due to failure or early termination of task";
            assert_eq!(message, format!("{words} {}", new.id));
        }
    }
}

#[test]
fn failures_up_to_the_ratio_are_suffered() {
    let mut config = rules(4, UpdateOrder::StopFirst, FailureAction::Pause);
    config.max_failure_ratio = 0.5;
    let mut world = world_with(4, config);
    world.update(with_image(world.spec(), "v2"));
    world.settle();
    let new: Vec<String> =
        world.wanted().iter().filter(|task| image(task) == "v2").map(|task| task.id.clone()).collect();
    for id in &new[..2] {
        world.report(id, TaskState::Failed);
    }
    world.reconcile();
    assert_eq!(world.update_state().0, UpdateState::Updating);
    world.report(&new[2], TaskState::Failed);
    world.reconcile();
    assert_eq!(world.update_state().0, UpdateState::Paused);
}

#[test]
fn continue_goes_on_whatever_happens() {
    let mut world = world_with(2, rules(1, UpdateOrder::StopFirst, FailureAction::Continue));
    world.update(with_image(world.spec(), "broken"));
    world.run(seconds(100));
    assert_eq!((running(&world, "v1"), world.update_state().0), (0, UpdateState::Completed));
    assert_eq!(world.wanted().len(), 2);
}

#[test]
fn an_early_failure_rolls_back() {
    for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
        let mut world = world_with(3, rules(1, order, FailureAction::Rollback));
        let good = world.service();
        world.update(with_image(world.spec(), "broken"));
        let mut said = String::new();
        for _ in 0..100 {
            while world.update_state().0 != UpdateState::RollbackStarted && !world.look().is_empty() {}
            if world.update_state().0 == UpdateState::RollbackStarted {
                said = world.update_state().1;
                break;
            }
            world.place();
            world.work();
        }
        assert!(
            said.starts_with("update rolled back due to failure or early termination of task "),
            "{said}"
        );
        let service = world.service();
        assert_eq!((&service.spec, &service.spec_version), (&good.spec, &good.spec_version));
        assert_eq!((&service.previous_spec, &service.previous_spec_version), (&None, &None));
        world.run(seconds(100));
        assert_eq!(running(&world, "v1"), 3);
        assert_eq!(world.update_state(), (UpdateState::RollbackCompleted, "rollback completed".to_owned()));
    }
}

#[test]
fn a_rollback_that_fails_is_paused() {
    let mut first = spec(replicated(2));
    first.rollback = Some(rules(1, UpdateOrder::StopFirst, FailureAction::Rollback));
    let mut world = World::new(2);
    world.create(with_image(first, "broken"));
    world.reconcile();
    world.update(with_image(world.spec(), "v2"));
    world.run(seconds(60));
    assert_eq!(running(&world, "v2"), 2);
    assert!(world.roll_back());
    world.run(seconds(60));
    let (state, message) = world.update_state();
    assert_eq!(state, UpdateState::RollbackPaused);
    assert!(message.starts_with("rollback paused due to failure or early termination of task "), "{message}");
}

#[test]
fn a_manual_rollback_goes_back_and_says_so() {
    let mut world = world_with(2, rules(0, UpdateOrder::StopFirst, FailureAction::Pause));
    world.update(with_image(world.spec(), "v2"));
    world.run(seconds(60));
    assert!(world.roll_back());
    world.settle();
    assert_eq!(
        world.update_state(),
        (UpdateState::RollbackStarted, "manually requested rollback".to_owned())
    );
    assert_eq!(running(&world, "v1"), 2);
    world.run(seconds(60));
    assert_eq!(world.update_state().0, UpdateState::RollbackCompleted);
}

#[test]
fn a_newer_spec_takes_over_a_running_update() {
    for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
        let mut world = world_with(3, rules(1, order, FailureAction::Pause));
        world.update(with_image(world.spec(), "v2"));
        world.reconcile();
        world.update(with_image(world.spec(), "v3"));
        world.run(seconds(100));
        assert_eq!((running(&world, "v3"), world.wanted().len()), (3, 3));
        assert_eq!(world.update_state().0, UpdateState::Completed);
    }
}

#[test]
fn forcing_and_networks_and_ports_replace_tasks() {
    let force = |spec: &mut ServiceSpec| spec.task.get_or_insert_default().force_update += 1;
    let network = |spec: &mut ServiceSpec| {
        let net = NetworkAttachmentConfig { target: "net1".to_owned(), ..NetworkAttachmentConfig::default() };
        spec.task.get_or_insert_default().networks.push(net);
    };
    let port = |spec: &mut ServiceSpec| {
        let port = PortConfig { target_port: 80, ..PortConfig::default() };
        spec.endpoint = Some(EndpointSpec { ports: vec![port], ..EndpointSpec::default() });
    };
    let changes: [fn(&mut ServiceSpec); 3] = [force, network, port];
    for change in changes {
        let mut world = world_with(1, rules(1, UpdateOrder::StopFirst, FailureAction::Pause));
        let old = world.tasks()[0].id.clone();
        let mut spec = world.spec();
        change(&mut spec);
        world.update(spec);
        world.run(seconds(60));
        let now = world.wanted();
        assert_eq!((now.len(), state(&now[0])), (1, TaskState::Running));
        assert_ne!(now[0].id, old);
        assert_eq!(now[0].spec, world.spec().task);
    }
}

#[test]
fn labels_and_rules_and_credentials_replace_nothing() {
    let label = |spec: &mut ServiceSpec| {
        spec.annotations.get_or_insert_default().labels.insert("a".to_owned(), "b".to_owned());
    };
    let rule = |spec: &mut ServiceSpec| spec.update = Some(UpdateConfig::default());
    let credentials = |spec: &mut ServiceSpec| {
        use weft_wire::swarmkit::{container_spec::PullOptions, task_spec::Runtime};
        if let Some(Runtime::Container(container)) = &mut spec.task.get_or_insert_default().runtime {
            container.pull_options = Some(PullOptions { registry_auth: "new".to_owned() });
        }
    };
    let changes: [fn(&mut ServiceSpec); 3] = [label, rule, credentials];
    for change in changes {
        let mut world = world_with(1, rules(1, UpdateOrder::StopFirst, FailureAction::Pause));
        let mut spec = world.spec();
        change(&mut spec);
        world.update(spec);
        assert!(world.look().is_empty());
        assert_eq!(world.service().update_status, None);
    }
}

#[test]
fn scaling_up_amid_an_update_does_not_wait_for_it() {
    let mut world = world_with(2, rules(1, UpdateOrder::StopFirst, FailureAction::Pause));
    let mut spec = with_image(world.spec(), "v2");
    spec.mode = Some(replicated(4));
    world.update(spec);
    world.look();
    let new: Vec<u64> = world.tasks().iter().filter(|it| image(it) == "v2").map(|it| it.slot).collect();
    assert_eq!(new, [1, 3, 4]);
    world.run(seconds(60));
    assert_eq!((running(&world, "v2"), world.update_state().0), (4, UpdateState::Completed));
}

#[test]
fn failures_count_also_after_the_clock_was_set_back() {
    let mut world = world_with(2, rules(1, UpdateOrder::StartFirst, FailureAction::Pause));
    world.update(with_image(world.spec(), "broken"));
    world.look();
    world.now -= seconds(3600);
    world.settle();
    assert_eq!((world.update_state().0, running(&world, "v1")), (UpdateState::Paused, 2));
}
