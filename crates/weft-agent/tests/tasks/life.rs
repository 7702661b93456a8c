//! From assignment to removal.

use std::time::Instant;

use prost_types::Duration as WireDuration;
use weft_wire::swarmkit::mount::Type;
use weft_wire::swarmkit::{HealthConfig, Mount, TaskState};

use crate::support::{container_of, desired, eventually, run, task};

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_task_runs_with_dockers_names_and_fails_with_its_exit_code", names_and_exit_code),
    ("a_task_that_ends_well_is_complete", complete),
    ("a_missing_image_is_rejected_in_dockers_words", missing_image),
    ("a_missing_bind_source_is_rejected_in_dockers_words", missing_bind),
    ("a_program_that_is_not_there_fails_the_start", missing_program),
    ("a_stop_has_its_grace_period_and_removal_takes_the_container", stop_and_remove),
    ("a_wish_for_ready_does_not_start", ready),
    ("with_a_health_check_a_task_runs_once_it_passed_and_fails_with_it", health),
    ("twenty_tasks_start_side_by_side", twenty),
    ("containers_of_unknown_tasks_go", unknown),
];

fn names_and_exit_code() {
    run(|lab| async move {
        lab.assign([task("t1", 2, "sleep 0.3; exit 3", |spec| {
            spec.labels.insert("mine".to_owned(), "1".to_owned());
        })]);
        let status = lab.reaches("t1", TaskState::Running).await;
        assert_eq!((status.state(), status.message.as_str()), (TaskState::Running, "started"));
        let container = container_of(&status);
        assert!(container.pid > 0);
        let found = lab.inspect("web.2.t1").unwrap();
        assert_eq!(found.id.as_ref(), Some(&container.container_id));
        let labels = found.config.unwrap().labels.unwrap();
        assert_eq!(labels["com.docker.swarm.task.name"], "web.2.t1");
        assert_eq!(labels["com.docker.swarm.service.name"], "web");
        assert_eq!((labels["com.docker.swarm.task"].as_str(), labels["mine"].as_str()), ("", "1"));
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!((status.state(), status.err.as_str()), (TaskState::Failed, "task: non-zero exit (3)"));
        assert_eq!(container_of(&status).exit_code, 3);
    });
}

fn complete() {
    run(|lab| async move {
        lab.assign([task("t1", 1, "echo out; echo err >&2", |_| {})]);
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!((status.state(), status.message.as_str()), (TaskState::Complete, "finished"));
        let container = container_of(&status).container_id;
        let lines = lab.bench().log(&container, 0).await;
        assert!(
            lines.contains(&(1, b"out\n".to_vec())) && lines.contains(&(2, b"err\n".to_vec())),
            "{lines:?}"
        );
        assert_eq!(lab.bench().log(&container, -2).await.len(), 1);
    });
}

fn missing_image() {
    run(|lab| async move {
        lab.assign([task("t1", 1, "true", |spec| spec.image = "127.0.0.1:9/nosuch:1".to_owned())]);
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!((status.state(), status.message.as_str()), (TaskState::Rejected, "preparing"));
        assert_eq!(status.err, "No such image: 127.0.0.1:9/nosuch:1");
    });
}

fn missing_bind() {
    run(|lab| async move {
        let mount = Mount {
            r#type: Type::Bind.into(),
            source: "/no/such/place".to_owned(),
            target: "/data".to_owned(),
            ..Mount::default()
        };
        lab.assign([task("t1", 1, "true", |spec| spec.mounts.push(mount))]);
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!(status.state(), TaskState::Rejected);
        assert_eq!(
            status.err,
            "invalid mount config for type \"bind\": bind source path does not exist: /no/such/place"
        );
    });
}

fn missing_program() {
    run(|lab| async move {
        lab.assign([task("t1", 1, "", |spec| spec.command = vec!["nosuchprogram".to_owned()])]);
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!((status.state(), status.message.as_str()), (TaskState::Failed, "starting"));
        assert!(status.err.starts_with("starting container failed: failed to create task"), "{}", status.err);
        assert_eq!(container_of(&status).exit_code, 127);
    });
}

fn stop_and_remove() {
    run(|lab| async move {
        // Deaf to the stop signal, so that the grace period runs out.
        let deaf = task("t1", 1, "trap '' TERM; while :; do sleep 0.1; done", |spec| {
            spec.stop_grace_period = Some(WireDuration { seconds: 1, nanos: 0 });
        });
        let polite = task("t2", 2, "trap 'exit 0' TERM; while :; do sleep 0.1; done", |_| {});
        lab.assign([deaf.clone(), polite.clone()]);
        for id in ["t1", "t2"] {
            lab.reaches(id, TaskState::Running).await;
        }
        let begin = Instant::now();
        lab.assign([desired(&deaf, TaskState::Shutdown), desired(&polite, TaskState::Remove)]);
        assert_eq!(lab.reaches("t2", TaskState::Complete).await.state(), TaskState::Shutdown);
        let status = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!((status.state(), status.message.as_str()), (TaskState::Shutdown, "shutdown"));
        assert_eq!(container_of(&status).exit_code, 137);
        assert!(begin.elapsed().as_secs_f64() >= 1.0);
        eventually("the container gone", || lab.inspect("web.2.t2").is_none().then_some(())).await;
        assert!(lab.inspect("web.1.t1").is_some(), "kept for a look until the task goes");
        lab.unassign([deaf]);
        eventually("the container gone", || lab.inspect("web.1.t1").is_none().then_some(())).await;
    });
}

fn ready() {
    run(|lab| async move {
        let held = desired(&task("t1", 1, "sleep 100", |_| {}), TaskState::Ready);
        lab.assign([held.clone()]);
        lab.reaches("t1", TaskState::Ready).await;
        assert_eq!(lab.status("t1").unwrap().state(), TaskState::Ready);
        assert!(lab.inspect("web.1.t1").is_some());
        lab.assign([desired(&held, TaskState::Running)]);
        lab.reaches("t1", TaskState::Running).await;
    });
}

fn health() {
    run(|lab| async move {
        let checked = |id: &str, slot, script: &str| {
            task(id, slot, script, |spec| {
                spec.stop_signal = "SIGKILL".to_owned();
                spec.healthcheck = Some(HealthConfig {
                    test: vec!["CMD".to_owned(), "test".to_owned(), "-e".to_owned(), "/tmp/well".to_owned()],
                    interval: Some(WireDuration { seconds: 0, nanos: 50_000_000 }),
                    timeout: Some(WireDuration { seconds: 5, nanos: 0 }),
                    retries: 3,
                    ..HealthConfig::default()
                });
            })
        };
        let falls_ill = "touch /tmp/well; sleep 1; rm /tmp/well; exec sleep 100";
        lab.assign([checked("t1", 1, falls_ill), checked("t2", 2, "exec sleep 100")]);
        assert_eq!(lab.reaches("t1", TaskState::Running).await.state(), TaskState::Running);
        let never = lab.reaches("t2", TaskState::Complete).await;
        assert_eq!((never.state(), never.message.as_str()), (TaskState::Failed, "starting"));
        assert_eq!(never.err, "dockerexec: unhealthy container");
        let fallen = lab.reaches("t1", TaskState::Complete).await;
        assert_eq!(fallen.state(), TaskState::Failed);
        assert_eq!(fallen.err, "task: non-zero exit (137): dockerexec: unhealthy container");
    });
}

fn twenty() {
    run(|lab| async move {
        let ids: Vec<String> = (1..=20).map(|slot| format!("t{slot}")).collect();
        let begin = Instant::now();
        lab.assign(ids.iter().zip(1..).map(|(id, slot)| task(id, slot, "sleep 100", |_| {})));
        for id in &ids {
            assert_eq!(lab.reaches(id, TaskState::Running).await.state(), TaskState::Running);
        }
        println!("twenty tasks running after {:.3} s", begin.elapsed().as_secs_f64());
    });
}

fn unknown() {
    run(|lab| async move {
        let left = task("t1", 1, "sleep 100", |_| {});
        lab.assign([left.clone()]);
        lab.reaches("t1", TaskState::Running).await;
        lab.restart(true, async {
            // What the agent knew is lost.
            std::fs::remove_dir_all(lab.dir.path().join("agent")).unwrap();
        })
        .await;
        assert!(lab.inspect("web.1.t1").is_some(), "nobody has said yet that it is not ours");
        lab.assign([]);
        eventually("the container gone", || lab.inspect("web.1.t1").is_none().then_some(())).await;
    });
}
