//! The daemon ends and comes back.

use weft_wire::swarmkit::TaskState;

use crate::support::{container_of, desired, eventually, run, task};

/// As long as real ones are: the networks ask for it.
const ID: &str = "lgjf4l0cluvtxyeyiish6dptc";

pub(crate) const TESTS: &[crate::Test] = &[
    ("with_live_restore_tasks_go_on", live_restore),
    ("an_end_while_nobody_looked_is_told", ended_meanwhile),
    ("without_live_restore_tasks_have_failed", stopped),
    ("what_has_ended_is_not_started_again", stays_ended),
];

fn live_restore() {
    run(|lab| async move {
        let assigned = task(ID, 1, "exec sleep 100", |spec| spec.stop_signal = "SIGKILL".to_owned());
        lab.assign([assigned.clone()]);
        let before = container_of(&lab.reaches(ID, TaskState::Running).await);
        lab.restart(true, async {}).await;
        let status = lab.status(ID).unwrap();
        assert_eq!((status.state(), container_of(&status)), (TaskState::Running, before.clone()));
        lab.assign([assigned.clone()]);
        let id = before.container_id.parse().unwrap();
        assert_eq!(lab.bench().task_of(&id).unwrap().as_str(), ID);
        lab.assign([desired(&assigned, TaskState::Shutdown)]);
        assert_eq!(lab.reaches(ID, TaskState::Complete).await.state(), TaskState::Shutdown);
    });
}

fn ended_meanwhile() {
    run(|lab| async move {
        lab.assign([task("t1", 1, "sleep 0.5; exit 4", |_| {})]);
        let pid = container_of(&lab.reaches("t1", TaskState::Running).await).pid;
        let gone = async {
            let process = format!("/proc/{pid}");
            eventually("the end", || (!std::path::Path::new(&process).exists()).then_some(())).await;
        };
        lab.restart(true, gone).await;
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!((status.state(), status.err.as_str()), (TaskState::Failed, "task: non-zero exit (4)"));
    });
}

fn stopped() {
    run(|lab| async move {
        lab.assign([task("t1", 1, "exec sleep 100", |spec| spec.stop_signal = "SIGKILL".to_owned())]);
        lab.reaches("t1", TaskState::Running).await;
        lab.restart(false, async {}).await;
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!((status.state(), status.err.as_str()), (TaskState::Failed, "task: non-zero exit (137)"));
    });
}

fn stays_ended() {
    run(|lab| async move {
        let assigned = task("t1", 1, "echo once", |_| {});
        lab.assign([assigned.clone()]);
        let status = lab.reaches("t1", TaskState::Complete).await;
        lab.restart(true, async {}).await;
        let other = task("t2", 2, "true", |_| {});
        lab.assign([assigned, other]);
        lab.reaches("t2", TaskState::Complete).await;
        assert_eq!(lab.status("t1").unwrap(), status);
        assert_eq!(lab.log(&container_of(&status).container_id).await, ["once"]);
    });
}
