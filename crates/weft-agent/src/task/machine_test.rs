use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const NOW: SystemTime = UNIX_EPOCH;

/// A machine and what it wants done.
struct Bench {
    machine: Machine,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        Self { machine: Machine::new(), effects: Vec::new() }
    }

    fn reachable() -> Self {
        Self { machine: Machine::new().reachable(true), effects: Vec::new() }
    }

    fn restored(state: TaskState, found: Option<Found>) -> Self {
        let status = TaskStatus { state: state.into(), ..TaskStatus::default() };
        let machine = Machine::restored(Some(&status), found.map(|found| ("c".to_owned(), found)));
        Self { machine, effects: Vec::new() }
    }

    fn give(&mut self, input: Input) -> &mut Self {
        self.machine.on(NOW, input, &mut self.effects);
        self
    }

    fn want(&mut self, desired: TaskState) -> &mut Self {
        self.give(Input::Assigned { desired, dependencies: true })
    }

    /// What was to be done since the last look: states reported by their name, steps by theirs.
    fn seen(&mut self) -> Vec<String> {
        let word = |effect: Effect| match effect {
            Effect::Report(status) if status.err.is_empty() => format!("{:?}", status.state()),
            Effect::Report(status) => format!("{:?}: {}", status.state(), status.err),
            Effect::Wake(_) => "Wake".to_owned(),
            other => format!("{other:?}"),
        };
        self.effects.drain(..).map(word).collect()
    }

    /// To a running container.
    fn run(&mut self) -> &mut Self {
        self.want(TaskState::Running).give(prepared()).give(started(false)).give(Input::Settled);
        assert_eq!(self.seen().last().unwrap(), "Running");
        self
    }
}

fn prepared() -> Input {
    Input::Prepared(Ok("c".to_owned()))
}

fn started(health_checked: bool) -> Input {
    Input::Started(Ok(Running { pid: 7, health_checked, ..Running::default() }))
}

fn exit(code: i32) -> Exit {
    Exit { code, error: String::new() }
}

#[test]
fn a_task_runs_and_finishes() {
    let mut bench = Bench::new();
    assert_eq!(bench.want(TaskState::Running).seen(), ["Accepted", "Preparing", "Prepare"]);
    assert_eq!(bench.give(prepared()).seen(), ["Ready", "Starting", "Start"]);
    bench.give(started(false));
    let Some(Effect::Report(status)) = bench.effects.last() else { panic!("no report") };
    let container = ContainerStatus { container_id: "c".into(), pid: 7, exit_code: 0 };
    assert_eq!(status.runtime_status, Some(RuntimeStatus::Container(container)));
    assert_eq!(bench.seen(), ["Running"]);
    assert!(bench.machine.is_serving());
    assert_eq!(bench.give(Input::Exited(exit(0))).seen(), ["Complete"]);
    assert!(!bench.machine.is_serving());
    assert_eq!(bench.give(Input::Gone).seen(), ["Remove"]);
    assert_eq!(bench.give(Input::Removed(Ok(()))).seen(), ["Forget"]);
}

#[test]
fn a_failure_names_the_exit_code_and_its_cause() {
    assert_eq!(Bench::new().run().give(Input::Exited(exit(3))).seen(), ["Failed: task: non-zero exit (3)"]);
    let killed = Exit { code: 137, error: "the shim vanished".into() };
    assert_eq!(
        Bench::new().run().give(Input::Exited(killed)).seen(),
        ["Failed: task: non-zero exit (137): the shim vanished"]
    );
}

#[test]
fn before_the_start_a_failure_is_a_rejection() {
    let mut bench = Bench::new();
    bench.want(TaskState::Running).seen();
    bench.give(Input::Prepared(Err("No such image: x".into())));
    let Some(Effect::Report(status)) = bench.effects.last() else { panic!("no report") };
    assert_eq!((status.state(), status.message.as_str()), (TaskState::Rejected, "preparing"));
    assert_eq!(bench.seen(), ["Rejected: No such image: x"]);
    assert_eq!(bench.give(Input::Gone).seen(), ["Forget"]);
}

#[test]
fn what_cannot_be_started_fails_with_its_exit_code() {
    let mut bench = Bench::new();
    bench.want(TaskState::Running).give(prepared()).seen();
    let failed = Exit { code: 127, error: "starting container failed: no sh".into() };
    // The engine tells the end, too; which comes first is chance.
    bench.give(Input::Exited(exit(127))).give(Input::Started(Err(failed)));
    let Some(Effect::Report(status)) = bench.effects.last() else { panic!("no report") };
    let Some(RuntimeStatus::Container(container)) = &status.runtime_status else { panic!("no container") };
    assert_eq!(container.exit_code, 127);
    assert_eq!(bench.seen(), ["Failed: starting container failed: no sh"]);
}

#[test]
fn it_waits_for_its_secrets() {
    let mut bench = Bench::new();
    bench.give(Input::Assigned { desired: TaskState::Running, dependencies: false });
    assert_eq!(bench.seen(), ["Accepted", "Preparing"]);
    assert_eq!(bench.want(TaskState::Running).seen(), ["Prepare"]);
}

#[test]
fn a_wish_for_ready_holds_it_there() {
    let mut bench = Bench::new();
    assert_eq!(bench.want(TaskState::Ready).give(prepared()).seen().last().unwrap(), "Ready");
    assert_eq!(bench.want(TaskState::Running).seen(), ["Starting", "Start"]);
}

#[test]
fn with_a_health_check_it_runs_once_that_passed() {
    let mut bench = Bench::new();
    bench.want(TaskState::Running).give(prepared()).give(started(true));
    assert_eq!(bench.seen().last().unwrap(), "Start");
    assert_eq!(bench.give(Input::Health(true)).seen(), ["Running"]);
    assert_eq!(bench.give(Input::Health(false)).seen(), ["Stop"]);
    assert_eq!(
        bench.give(Input::Exited(exit(143))).give(Input::Stopped(Ok(exit(143)))).seen(),
        ["Failed: task: non-zero exit (143): dockerexec: unhealthy container"]
    );
}

#[test]
fn one_that_never_gets_healthy_is_stopped_and_fails() {
    let mut bench = Bench::new();
    bench.want(TaskState::Running).give(prepared()).give(started(true)).seen();
    assert_eq!(bench.give(Input::Health(false)).seen(), ["Stop"]);
    assert_eq!(bench.give(Input::Stopped(Ok(exit(0)))).seen(), ["Failed: dockerexec: unhealthy container"]);
}

#[test]
fn a_stop_ends_in_shutdown_and_keeps_the_container_until_removal() {
    let mut bench = Bench::new();
    assert_eq!(bench.run().want(TaskState::Shutdown).seen(), ["Stop"]);
    assert!(!bench.machine.is_serving());
    assert_eq!(bench.give(Input::Exited(exit(137))).seen(), ["Shutdown"]);
    assert!(bench.give(Input::Stopped(Ok(exit(137)))).seen().is_empty());
    assert_eq!(bench.want(TaskState::Remove).seen(), ["Remove"]);
    assert!(bench.give(Input::Removed(Ok(()))).seen().is_empty());
    assert_eq!(bench.give(Input::Gone).seen(), ["Forget"]);
}

#[test]
fn a_failed_stop_is_tried_again_later() {
    let mut bench = Bench::new();
    bench.run().want(TaskState::Shutdown).seen();
    assert_eq!(bench.give(Input::Stopped(Err("busy".into()))).seen(), ["Wake"]);
    assert!(bench.give(Input::Tick).seen().is_empty(), "not yet");
    bench.machine.on(NOW + RETRY, Input::Tick, &mut bench.effects);
    assert_eq!(bench.seen(), ["Stop"]);
}

#[test]
fn a_preparation_nobody_wants_is_given_up() {
    let mut bench = Bench::new();
    bench.want(TaskState::Running).seen();
    assert_eq!(bench.want(TaskState::Remove).seen(), ["CancelPrepare"]);
    // It had made the container already.
    assert_eq!(bench.give(prepared()).seen(), ["Shutdown", "Remove"]);
    let mut bench = Bench::new();
    bench.want(TaskState::Running).seen();
    assert_eq!(bench.give(Input::Gone).seen(), ["CancelPrepare"]);
    assert_eq!(bench.give(Input::Prepared(Err("cancelled".into()))).seen(), ["Shutdown", "Forget"]);
}

#[test]
fn what_is_to_end_before_it_began_makes_nothing() {
    assert_eq!(Bench::new().want(TaskState::Shutdown).seen(), ["Shutdown"]);
    assert_eq!(Bench::new().want(TaskState::Remove).seen(), ["Shutdown"]);
}

#[test]
fn a_start_under_way_is_stopped_once_it_is_done() {
    let mut bench = Bench::new();
    bench.want(TaskState::Running).give(prepared()).seen();
    assert!(bench.want(TaskState::Shutdown).seen().is_empty());
    assert_eq!(bench.give(started(true)).seen(), ["Stop"]);
}

#[test]
fn a_daemon_that_comes_back_finds_its_tasks() {
    let running = || Found::Running(Running::default(), true);
    let cases = [
        (TaskState::Running, Some(running()), vec![]),
        (TaskState::Starting, Some(running()), vec!["Running"]),
        (TaskState::Preparing, Some(running()), vec!["Ready", "Starting", "Running"]),
        (TaskState::Running, Some(Found::Exited(exit(1))), vec!["Failed: task: non-zero exit (1)"]),
        (TaskState::Running, Some(Found::Exited(exit(0))), vec!["Complete"]),
        (TaskState::Running, None, vec!["Failed: dockerexec: container destroyed"]),
        (TaskState::Starting, Some(Found::Created), vec!["Start"]),
        (TaskState::Ready, Some(Found::Created), vec!["Starting", "Start"]),
        (TaskState::Preparing, None, vec!["Prepare"]),
        (TaskState::Failed, Some(Found::Exited(exit(1))), vec![]),
        (TaskState::Failed, None, vec![]),
    ];
    for (state, found, want) in cases {
        let mut bench = Bench::restored(state, found.clone());
        assert_eq!(bench.want(TaskState::Running).seen(), want, "{state:?} {found:?}");
    }
}

#[test]
fn one_that_others_reach_runs_once_balancers_know_it() {
    let mut bench = Bench::reachable();
    bench.want(TaskState::Running).give(prepared()).give(started(true)).seen();
    assert!(!bench.machine.is_serving(), "not healthy yet");
    assert_eq!(bench.give(Input::Health(true)).seen(), ["Settle"]);
    assert!(bench.machine.is_serving(), "or no balancer would take it");
    assert_eq!(bench.give(Input::Settled).seen(), ["Running"]);
    assert!(bench.machine.is_serving());
    assert!(bench.give(Input::Settled).seen().is_empty());
}

#[test]
fn it_stops_once_nothing_new_is_sent_to_it() {
    let mut bench = Bench::reachable();
    assert_eq!(bench.run().want(TaskState::Shutdown).seen(), ["Leave"]);
    assert!(!bench.machine.is_serving());
    assert!(bench.want(TaskState::Remove).seen().is_empty(), "once");
    assert_eq!(bench.give(Input::Left).seen(), ["Stop"]);
    assert_eq!(bench.give(Input::Stopped(Err("busy".into()))).seen(), ["Wake"]);
    bench.machine.on(NOW + RETRY, Input::Tick, &mut bench.effects);
    assert_eq!(bench.seen(), ["Stop"], "it has left already");
}

#[test]
fn nobody_waits_for_balancers_of_a_container_that_ended_or_is_unwell() {
    let mut bench = Bench::reachable();
    bench.want(TaskState::Running).give(prepared()).give(started(false));
    assert_eq!(bench.seen().last().unwrap(), "Settle");
    assert_eq!(bench.give(Input::Exited(exit(1))).seen(), ["Failed: task: non-zero exit (1)"]);
    assert!(!bench.machine.is_serving());
    assert!(bench.give(Input::Settled).seen().is_empty(), "too late");

    let mut bench = Bench::reachable();
    bench.run().want(TaskState::Shutdown).seen();
    assert_eq!(bench.give(Input::Exited(exit(0))).seen(), ["Shutdown"]);
    assert!(bench.give(Input::Left).seen().is_empty());

    let mut bench = Bench::reachable();
    assert_eq!(bench.run().give(Input::Health(false)).seen(), ["Stop"], "it has no traffic to lose");
    let mut bench = Bench::reachable();
    bench.run().want(TaskState::Shutdown).seen();
    assert_eq!(bench.give(Input::Health(false)).seen(), ["Stop"]);
}

#[test]
fn one_that_never_took_traffic_has_nothing_to_leave() {
    let mut bench = Bench::reachable();
    bench.want(TaskState::Running).give(prepared()).give(started(true)).seen();
    assert_eq!(bench.want(TaskState::Shutdown).seen(), ["Stop"]);
}

#[test]
fn one_that_ends_while_it_settles_has_to_leave() {
    let mut bench = Bench::reachable();
    bench.want(TaskState::Running).give(prepared()).give(started(false)).seen();
    assert_eq!(bench.want(TaskState::Shutdown).seen(), ["Leave"]);
    assert!(!bench.machine.is_serving());
    assert!(bench.give(Input::Settled).seen().is_empty());
    assert_eq!(bench.give(Input::Left).seen(), ["Stop"]);
}

#[test]
fn one_that_is_wanted_again_leaves_anew() {
    let mut bench = Bench::reachable();
    assert_eq!(bench.run().give(Input::Gone).seen(), ["Leave"]);
    assert!(bench.want(TaskState::Running).seen().is_empty());
    assert!(bench.machine.is_serving());
    // The first answer speaks of what is no longer so.
    bench.give(Input::Gone);
    assert_eq!(bench.give(Input::Left).seen(), ["Leave"]);
    assert_eq!(bench.give(Input::Left).seen(), ["Stop"]);
}

#[test]
fn a_daemon_that_comes_back_settles_and_leaves_as_if_it_had_not_been_away() {
    let restored = |state| {
        let mut bench = Bench::restored(state, Some(Found::Running(Running::default(), true)));
        bench.machine = bench.machine.clone().reachable(true);
        bench
    };
    let mut bench = restored(TaskState::Running);
    assert!(bench.want(TaskState::Running).seen().is_empty());
    assert!(bench.machine.is_serving());
    assert_eq!(bench.want(TaskState::Shutdown).seen(), ["Leave"]);
    assert_eq!(restored(TaskState::Running).want(TaskState::Remove).seen(), ["Leave"]);
    assert_eq!(restored(TaskState::Starting).want(TaskState::Running).seen(), ["Settle"]);
}

fn inputs() -> impl Strategy<Value = Input> {
    use TaskState::{Ready, Remove, Running as Run, Shutdown};
    let wish = (prop::sample::select(vec![Ready, Run, Run, Run, Shutdown, Remove]), any::<bool>())
        .prop_map(|(desired, dependencies)| Input::Assigned { desired, dependencies });
    prop_oneof![
        4 => wish,
        1 => Just(Input::Gone),
        1 => (0..3).prop_map(|code| Input::Exited(exit(code))),
        1 => any::<bool>().prop_map(Input::Health),
        1 => Just(Input::Tick),
    ]
}

/// An executor that answers each step some time later, well or badly.
fn answer(step: &Effect, well: bool) -> Option<Input> {
    let failed = "failed".to_owned();
    Some(match step {
        Effect::Prepare => Input::Prepared(if well { Ok("c".into()) } else { Err(failed) }),
        Effect::Start if well => started(true),
        Effect::Start => Input::Started(Err(Exit { code: 128, error: failed })),
        Effect::Settle => Input::Settled,
        Effect::Leave => Input::Left,
        Effect::Stop => Input::Stopped(if well { Ok(exit(0)) } else { Err(failed) }),
        Effect::Remove => Input::Removed(if well { Ok(()) } else { Err(failed) }),
        _ => return None,
    })
}

proptest! {
    /// States only grow, one step at a time is under way (a wait for balancers may be given up), one that takes
    /// traffic and is well is stopped only after it left, and whatever happened, a task that is gone is forgotten with
    /// nothing left behind once the executor does what it is asked.
    #[test]
    fn any_history_ends_clean(
        reachable in any::<bool>(),
        history in prop::collection::vec((inputs(), any::<bool>(), any::<bool>()), 0..40),
    ) {
        let mut machine = Machine::new().reachable(reachable);
        let (mut served, mut left, mut well_and_alive) = (false, false, true);
        let (mut now, mut reached) = (NOW, TaskState::New);
        let (mut under_way, mut made, mut forgotten) = (None::<Effect>, false, false);
        let mut give = |machine: &mut Machine, now, input, under_way: &mut Option<Effect>| {
            let mut effects = Vec::new();
            match input {
                Input::Prepared(Ok(_)) => made = true,
                Input::Removed(Ok(())) => made = false,
                Input::Left => left = true,
                Input::Exited(_) | Input::Health(false) => well_and_alive = false,
                _ => {}
            }
            machine.on(now, input, &mut effects);
            if machine.is_serving() { (served, left) = (true, false); }
            for effect in effects {
                match &effect {
                    Effect::Report(status) => {
                        assert!(status.state() > reached, "{:?} after {reached:?}", status.state());
                        reached = status.state();
                    }
                    Effect::Forget => { assert!(!made && !forgotten); forgotten = true; }
                    Effect::Settle | Effect::Leave | Effect::Prepare | Effect::Start | Effect::Stop | Effect::Remove => {
                        let given_up = matches!(under_way, None | Some(Effect::Settle | Effect::Leave));
                        assert!(given_up, "{effect:?} while {under_way:?}");
                        assert!(reachable || !matches!(effect, Effect::Settle | Effect::Leave));
                        assert!(effect != Effect::Stop || !reachable || !served || left || !well_and_alive);
                        *under_way = Some(effect);
                    }
                    Effect::CancelPrepare => assert_eq!(*under_way, Some(Effect::Prepare)),
                    Effect::Wake(_) => {}
                }
            }
            forgotten
        };
        for (input, answers, well) in history {
            now += Duration::from_millis(300);
            if give(&mut machine, now, input, &mut under_way) { break; }
            if answers && let Some(step) = under_way.take() {
                let input = answer(&step, well).unwrap();
                if give(&mut machine, now, input, &mut under_way) { break; }
            }
        }
        let mut done = give(&mut machine, now, Input::Gone, &mut under_way);
        for _ in 0..20 {
            now += RETRY;
            let input = under_way.take().and_then(|step| answer(&step, true)).unwrap_or(Input::Tick);
            done |= give(&mut machine, now, input, &mut under_way);
        }
        prop_assert!(done, "not forgotten: {machine:?}");
    }
}
