//! What holds whatever happens.
//!
//! A service lives through any sequence of events: tasks get on, fail or end, nodes vanish and come back, the user
//! scales, updates and rolls back, leaders change, proposals are refused. After each event the invariants hold.
//! When nothing disturbs any more, what the user wants runs exactly once, and the loops ask for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use weft_orchestration::Snapshot;
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::node_status::State;
use weft_wire::swarmkit::restart_policy::RestartCondition;
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::update_config::{FailureAction, UpdateOrder};
use weft_wire::swarmkit::update_status::UpdateState;
use weft_wire::swarmkit::{ServiceSpec, Task, TaskState, UpdateConfig};

use crate::world::{
    World, availability_of, global, global_job, is_wanted, replicated, replicated_job, seconds, spec, state,
    status_of, stored, with_image, with_restart, with_update,
};

const NODES: usize = 4;
const MOST_REPLICAS: u64 = 6;
/// Tasks of a slot that are kept besides the history: wanted ones, those still stopping, what decisions need.
const BESIDES_HISTORY: usize = 5;

#[derive(Debug, Clone)]
enum Event {
    /// Every node takes its tasks one step on.
    Work,
    /// One task gets one step on.
    Step(prop::sample::Index),
    Fail(prop::sample::Index),
    Finish(prop::sample::Index),
    Place,
    Node(usize, State),
    Availability(usize, Availability),
    RemoveNode(usize),
    Scale(u64),
    Image(u8),
    Force,
    Label,
    RollBack,
    NewLeader,
    Refuse,
    Cut(usize),
    Wait(u64),
    /// Everything does its work for so many seconds.
    Calm(u64),
    ClockBack(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let task = || any::<prop::sample::Index>();
    let node = || 1..=NODES;
    let node_state = prop::sample::select(vec![State::Down, State::Ready, State::Disconnected]);
    let availability =
        prop::sample::select(vec![Availability::Active, Availability::Pause, Availability::Drain]);
    prop_oneof![
        8 => Just(Event::Work),
        3 => task().prop_map(Event::Step),
        2 => task().prop_map(Event::Fail),
        1 => task().prop_map(Event::Finish),
        5 => Just(Event::Place),
        3 => (node(), node_state).prop_map(|(node, state)| Event::Node(node, state)),
        2 => (node(), availability).prop_map(|(node, availability)| Event::Availability(node, availability)),
        1 => node().prop_map(Event::RemoveNode),
        2 => (0..=MOST_REPLICAS).prop_map(Event::Scale),
        2 => (1u8..=4).prop_map(Event::Image),
        1 => Just(Event::Force),
        1 => Just(Event::Label),
        1 => Just(Event::RollBack),
        2 => Just(Event::NewLeader),
        1 => Just(Event::Refuse),
        2 => (1usize..6).prop_map(Event::Cut),
        4 => (1u64..90).prop_map(Event::Wait),
        3 => (1u64..90).prop_map(Event::Calm),
        1 => (1u64..5000).prop_map(Event::ClockBack),
    ]
}

fn update_rules() -> impl Strategy<Value = UpdateConfig> {
    let order = prop::sample::select(vec![UpdateOrder::StopFirst, UpdateOrder::StartFirst]);
    let action =
        prop::sample::select(vec![FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback]);
    (0u64..4, 0u64..20, order, action, 0u64..10, 0u8..3).prop_map(
        |(parallelism, delay, order, action, monitor, ratio)| UpdateConfig {
            parallelism,
            delay: stored(seconds(delay)),
            failure_action: action.into(),
            monitor: stored(seconds(monitor)),
            max_failure_ratio: f32::from(ratio) * 0.3,
            order: order.into(),
        },
    )
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        3 => (0..=MOST_REPLICAS).prop_map(replicated),
        1 => Just(global()),
        1 => (0..=MOST_REPLICAS, 0u64..4).prop_map(|(total, at_once)| replicated_job(total, at_once)),
        1 => Just(global_job()),
    ]
}

#[derive(Clone)]
struct Case {
    spec: ServiceSpec,
    history: i64,
    seed: u64,
    events: Vec<Event>,
}

/// Only what differs between cases.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let restart = self.spec.task.as_ref().and_then(|task| task.restart.as_ref());
        write!(f, "{:?}\n{:?}\n{restart:?}\n", self.spec.mode, self.spec.update)?;
        write!(f, "history {}, seed {}\n{:?}", self.history, self.seed, self.events)
    }
}

fn case(
    restart: impl Strategy<Value = (RestartCondition, u64, u64, Option<u64>)>,
) -> impl Strategy<Value = Case> {
    let events = prop::collection::vec(event(), 1..60);
    (any_mode(), update_rules(), restart, 0i64..6, any::<u64>(), events).prop_map(
        |(mode, update, (condition, delay, attempts, window), history, seed, events)| {
            let mut spec = with_update(spec(mode), update);
            spec.rollback = Some(update);
            let window = window.map(seconds);
            Case {
                spec: with_restart(spec, condition, seconds(delay), attempts, window),
                history,
                seed,
                events,
            }
        },
    )
}

/// A policy under which nothing is ever given up.
fn persistent() -> impl Strategy<Value = (RestartCondition, u64, u64, Option<u64>)> {
    (1u64..8).prop_map(|delay| (RestartCondition::Any, delay, 0, None))
}

fn any_policy() -> impl Strategy<Value = (RestartCondition, u64, u64, Option<u64>)> {
    let condition = prop::sample::select(vec![
        RestartCondition::None,
        RestartCondition::OnFailure,
        RestartCondition::Any,
    ]);
    (condition, 1u64..8, 0u64..4, prop::option::of(1u64..60))
}

fn is_job(world: &World) -> bool {
    matches!(world.spec().mode, Some(Mode::ReplicatedJob(_) | Mode::GlobalJob(_)))
}

fn happen(world: &mut World, event: &Event) {
    let pick = |world: &World, index: &prop::sample::Index| {
        let tasks = world.tasks();
        (!tasks.is_empty()).then(|| (*tasks[index.index(tasks.len())]).clone())
    };
    let name = |number: &usize| format!("n{number}");
    match event {
        Event::Work => drop(world.work()),
        Event::Step(index) => {
            if let Some(task) = pick(world, index)
                && let Some(next) = world.next_state(&task)
            {
                world.report(&task.id, next);
            }
        }
        Event::Fail(index) => {
            if let Some(task) = pick(world, index)
                .filter(|task| (TaskState::Assigned..=TaskState::Running).contains(&state(task)))
            {
                let how =
                    if state(&task) < TaskState::Starting { TaskState::Rejected } else { TaskState::Failed };
                world.report(&task.id, how);
            }
        }
        Event::Finish(index) => {
            if let Some(task) = pick(world, index).filter(|task| state(task) == TaskState::Running) {
                world.report(&task.id, TaskState::Complete);
            }
        }
        Event::Place => world.place(),
        Event::Node(number, state) => {
            let availability =
                world.store.node(&name(number)).map_or(Availability::Active, |it| availability_of(it));
            world.set_node(&name(number), *state, availability);
        }
        Event::Availability(number, availability) => {
            let state = world.store.node(&name(number)).map_or(State::Ready, |node| status_of(node));
            world.set_node(&name(number), state, *availability);
        }
        Event::RemoveNode(number) => world.store.remove_node(&name(number)),
        Event::Scale(replicas) => {
            if matches!(world.spec().mode, Some(Mode::Replicated(_))) {
                world.scale(*replicas);
            }
        }
        Event::Image(number) => {
            // Every fourth does not start.
            let image = if *number == 4 { "broken".to_owned() } else { format!("v{number}") };
            world.update(with_image(world.spec(), &image));
        }
        Event::Force => {
            let mut spec = world.spec();
            spec.task.get_or_insert_default().force_update += 1;
            world.update(spec);
        }
        Event::Label => {
            let mut spec = world.spec();
            spec.annotations.get_or_insert_default().labels.insert("a".to_owned(), "b".to_owned());
            world.update(spec);
        }
        Event::RollBack => {
            if !is_job(world) {
                world.roll_back();
            }
        }
        Event::NewLeader => world.new_leader(),
        Event::Refuse => world.refusals = 1,
        Event::Cut(first) => world.cut = Some(*first),
        Event::Calm(time) => world.run(seconds(*time)),
        Event::Wait(time) => world.now += seconds(*time),
        Event::ClockBack(time) => world.now -= seconds(*time),
    }
}

fn slot_of(world: &World, task: &Task) -> String {
    match world.spec().mode {
        Some(Mode::Global(_) | Mode::GlobalJob(_)) => task.node_id.clone(),
        _ => task.slot.to_string(),
    }
}

fn created(task: &Task) -> SystemTime {
    let created = task.meta.as_ref().and_then(|meta| meta.created_at).unwrap();
    SystemTime::try_from(created).unwrap()
}

struct Watch {
    desired: BTreeMap<String, TaskState>,
    most_replicas: usize,
}

impl Watch {
    fn new() -> Self {
        Self { desired: BTreeMap::new(), most_replicas: 0 }
    }

    /// What was told to stop has stopped, or had its time, before the next one of its slot starts.
    fn check_start(&self, world: &World, tasks: &[std::sync::Arc<Task>], task: &Task, case: &Case) {
        let was_started = task.desired_state() == TaskState::Running
            && self.desired.get(&task.id).is_none_or(|before| *before == TaskState::Ready);
        let starts_first = case.spec.update.as_ref().unwrap().order() == UpdateOrder::StartFirst;
        let clock_jumps = case.events.iter().any(|event| matches!(event, Event::ClockBack(_)));
        if !was_started || starts_first || clock_jumps || created(task) + seconds(60) <= world.now {
            return;
        }
        for other in tasks {
            let is_before = slot_of(world, other) == slot_of(world, task) && created(other) < created(task);
            let is_lost = world.store.node(&other.node_id).is_none_or(|node| status_of(node) == State::Down);
            let is_stopping = other.desired_state() == TaskState::Shutdown
                && (TaskState::Assigned..=TaskState::Running).contains(&state(other));
            assert!(
                !is_before || is_lost || !is_stopping,
                "{} does not wait for {}: {:#?}",
                task.id,
                other.id,
                world.picture()
            );
        }
    }

    /// Call it when the loops have come to rest.
    fn check(&mut self, world: &World, case: &Case) {
        let tasks = world.tasks();
        let mut slots: BTreeMap<String, Vec<&Task>> = BTreeMap::new();
        for task in &tasks {
            self.check_start(world, &tasks, task, case);
            if let Some(before) = self.desired.insert(task.id.clone(), task.desired_state()) {
                assert!(before <= task.desired_state(), "{} was asked less: {:#?}", task.id, world.picture());
            }
            slots.entry(slot_of(world, task)).or_default().push(task);
        }
        let update = case.spec.update.as_ref().unwrap();
        let starts_first = update.order() == UpdateOrder::StartFirst;
        for (slot, tasks) in &slots {
            let wanted =
                tasks.iter().filter(|task| is_wanted(task) && state(task) != TaskState::Complete).count();
            let most = if starts_first { 2 } else { 1 };
            assert!(wanted <= most, "slot {slot} has {wanted}: {:#?}", world.picture());
            let attempts = case.spec.task.as_ref().unwrap().restart.as_ref().unwrap().max_attempts as usize;
            let history = if attempts > 0 { attempts + 1 } else { case.history as usize };
            let stopping = tasks
                .iter()
                .filter(|task| {
                    !is_wanted(task) && (TaskState::Assigned..=TaskState::Running).contains(&state(task))
                })
                .count();
            let most = history + BESIDES_HISTORY + stopping;
            assert!(tasks.len() <= most, "slot {slot} remembers {}: {:#?}", tasks.len(), world.picture());
        }
        let may_run = |task: &&std::sync::Arc<Task>| {
            is_wanted(task) && task.desired_state() > TaskState::Ready && state(task) != TaskState::Complete
        };
        let running = tasks.iter().filter(may_run).count();
        match world.spec().mode {
            Some(Mode::Replicated(mode)) => {
                self.most_replicas = mode.replicas as usize;
                let at_once = if update.parallelism == 0 { usize::MAX } else { update.parallelism as usize };
                let extra = if starts_first { at_once.min(self.most_replicas) } else { 0 };
                let most = self.most_replicas + extra;
                assert!(running <= most, "{running} > {most} are to run: {:#?}", world.picture());
            }
            Some(Mode::ReplicatedJob(job)) => {
                let at_once =
                    if job.max_concurrent == 0 { job.total_completions } else { job.max_concurrent };
                assert!(running <= at_once.min(job.total_completions) as usize, "{:#?}", world.picture());
            }
            _ => {}
        }
    }
}

fn live(case: &Case) -> World {
    live_and_see(case, |_| ())
}

fn live_and_see(case: &Case, mut see: impl FnMut(&World)) -> World {
    let mut world = World::with_seed(NODES, case.seed);
    world.history_limit(case.history);
    world.create(case.spec.clone());
    let mut watch = Watch::new();
    for event in &case.events {
        happen(&mut world, event);
        world.reconcile();
        watch.check(&world, case);
        see(&world);
    }
    world
}

/// Everything works from now on; the user looks after a paused update.
fn recover(world: &mut World) {
    world.refusals = 0;
    "nothing".clone_into(&mut world.broken);
    for number in 1..=NODES {
        world.set_node(&format!("n{number}"), State::Ready, Availability::Active);
    }
    for _ in 0..3 {
        // Looks at everything: what was given up while the clock was wrong is tried again when it is right.
        world.new_leader();
        world.run(seconds(3600));
        if matches!(world.update_state().0, UpdateState::Paused | UpdateState::RollbackPaused) {
            world.update(world.spec());
        }
    }
}

/// Nothing is left to do, also for one who comes new.
fn assert_rest(world: &mut World) {
    assert!(world.look().is_empty());
    world.new_leader();
    let changes = world.look();
    assert!(changes.is_empty(), "{changes:#?}");
}

fn check_goal(world: &World) {
    let wanted = world.wanted();
    let places: BTreeSet<String> = wanted.iter().map(|task| slot_of(world, task)).collect();
    let picture = world.picture();
    assert_eq!(places.len(), wanted.len(), "{picture:#?}");
    match world.spec().mode.unwrap() {
        Mode::Replicated(mode) => assert_eq!(wanted.len() as u64, mode.replicas, "{picture:#?}"),
        Mode::Global(_) => assert_eq!(wanted.len(), NODES, "{picture:#?}"),
        _ => unreachable!(),
    }
    for task in &wanted {
        assert_eq!(
            (state(task), task.desired_state()),
            (TaskState::Running, TaskState::Running),
            "{picture:#?}"
        );
        assert_eq!(task.spec, world.spec().task, "{picture:#?}");
    }
    let others = world.tasks().into_iter().filter(|task| !is_wanted(task));
    for task in others {
        assert!(state(&task) > TaskState::Running || state(&task) < TaskState::Assigned, "{picture:#?}");
    }
    let state = world.update_state().0;
    assert!(!matches!(state, UpdateState::Updating | UpdateState::RollbackStarted), "{state:?} {picture:#?}");
}

/// Jobs: whatever runs completes until nothing runs.
fn complete_all(world: &mut World) {
    for _ in 0..50 {
        world.run(seconds(60));
        let running: Vec<_> =
            world.wanted().into_iter().filter(|task| state(task) == TaskState::Running).collect();
        if running.is_empty() {
            return;
        }
        for task in running {
            world.report(&task.id, TaskState::Complete);
        }
    }
    panic!("the job does not end: {:#?}", world.picture());
}

fn check_job(world: &World) {
    let iteration = world.service().job_status.unwrap().job_iteration.unwrap_or_default();
    let done: BTreeSet<String> = (world.tasks().iter())
        .filter(|it| state(it) == TaskState::Complete && it.job_iteration.unwrap_or_default() == iteration)
        .map(|it| slot_of(world, it))
        .collect();
    match world.spec().mode.unwrap() {
        Mode::ReplicatedJob(job) => {
            assert_eq!(done.len() as u64, job.total_completions, "{:#?}", world.picture())
        }
        Mode::GlobalJob(_) => assert_eq!(done.len(), NODES, "{:#?}", world.picture()),
        _ => unreachable!(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_user_wants_runs_exactly_once(case in case(persistent())) {
        let mut world = live(&case);
        recover(&mut world);
        if is_job(&world) {
            complete_all(&mut world);
            check_job(&world);
        } else {
            check_goal(&world);
        }
        assert_rest(&mut world);
    }

    #[test]
    fn under_any_policy_it_comes_to_rest(case in case(any_policy())) {
        let mut world = live(&case);
        recover(&mut world);
        if is_job(&world) {
            complete_all(&mut world);
        }
        assert_rest(&mut world);
        for task in world.wanted() {
            prop_assert!(state(&task) == TaskState::Running || state(&task) == TaskState::Complete, "{:#?}", world.picture());
        }
    }

    #[test]
    fn a_removed_service_leaves_nothing(case in case(any_policy())) {
        let mut world = live(&case);
        world.store.remove_service(crate::world::SERVICE);
        world.refusals = 0;
        for number in 1..=NODES {
            world.set_node(&format!("n{number}"), State::Ready, Availability::Active);
        }
        world.run(seconds(60));
        prop_assert!(world.tasks().is_empty());
    }
}

/// What is generated is not harmless: each of the situations that matter comes up.
#[test]
fn the_generated_lives_are_eventful() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    for _ in 0..300 {
        let case = case(any_policy()).new_tree(&mut runner).unwrap().current();
        let mut of_case: BTreeSet<&'static str> = BTreeSet::new();
        live_and_see(&case, |world| of_case.extend(situations(world)));
        for situation in of_case {
            *seen.entry(situation).or_default() += 1;
        }
    }
    for situation in SITUATIONS {
        assert!(seen.get(situation).is_some_and(|count| *count >= 3), "{situation}: {seen:?}");
    }
}

const SITUATIONS: [&str; 9] = [
    "update runs",
    "update completed",
    "update paused",
    "rolls back",
    "rollback completed",
    "two in a slot",
    "waits to start",
    "orphaned",
    "gave up",
];

fn situations(world: &World) -> Vec<&'static str> {
    let mut found = Vec::new();
    found.extend(match world.update_state().0 {
        UpdateState::Updating => Some("update runs"),
        UpdateState::Completed => Some("update completed"),
        UpdateState::Paused | UpdateState::RollbackPaused => Some("update paused"),
        UpdateState::RollbackStarted => Some("rolls back"),
        UpdateState::RollbackCompleted => Some("rollback completed"),
        UpdateState::Unknown => None,
    });
    let tasks = world.tasks();
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for task in tasks.iter().filter(|task| is_wanted(task)) {
        *wanted.entry(slot_of(world, task)).or_default() += 1;
    }
    if wanted.values().any(|count| *count > 1) {
        found.push("two in a slot");
    }
    if tasks.iter().any(|task| task.desired_state() == TaskState::Ready) {
        found.push("waits to start");
    }
    if tasks.iter().any(|task| state(task) == TaskState::Orphaned) {
        found.push("orphaned");
    }
    if tasks
        .iter()
        .any(|task| !wanted.contains_key(&slot_of(world, task)) && state(task) == TaskState::Failed)
    {
        found.push("gave up");
    }
    found
}
