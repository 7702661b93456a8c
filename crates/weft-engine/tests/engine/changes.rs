//! What containers have changed, images of that, and changes of their limits.

use bollard_stubs::models::{ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum};
use weft_engine::{ChangeKind, CommitOptions, EventType};
use weft_types::{Classified, ErrorKind};

use crate::Test;
use crate::support::{Lab, host, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("changes_are_those_of_the_container_alone", || run(of_the_container_alone)),
    ("a_commit_is_of_one_moment_and_whole", || run(commit)),
    ("what_a_commit_has_left_frozen_is_thawed", || run(left_frozen_is_thawed)),
    ("limits_change_while_it_runs", || run(limits_change)),
    ("limits_of_a_stopped_container_count_at_its_start", || run(limits_of_a_stopped_container)),
];

async fn of_the_container_alone(lab: Lab) {
    let changes = async |id: &str| -> Vec<String> {
        let changes = lab.engine.changes(id).await.unwrap().into_iter();
        let letter = |kind| match kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        changes.map(|change| format!("{} {}", letter(change.kind), change.path)).collect()
    };
    let id = lab.start("sleep 1000", |_| {}).await;
    assert_eq!(changes(&id).await, Vec::<String>::new(), "what the runtime mounts on is no change");
    let script = "echo x > /tmp/new; rm /etc/plain; echo more >> /etc/passwd; rm -r /data; mkdir /data; \
                  touch /data/own; mkdir -p /made/deep";
    let (code, _, err) = lab.exec(&id, &["sh", "-c", script]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let wanted = [
        "C /data",
        "D /data/first",
        "A /data/own",
        "C /etc",
        "C /etc/passwd",
        "D /etc/plain",
        "A /made",
        "A /made/deep",
        "C /tmp",
        "A /tmp/new",
    ];
    assert_eq!(changes(&id).await, wanted);
    lab.engine.kill(&id, None).await.unwrap();
    assert_eq!(changes(&id).await, wanted);
    assert!(lab.engine.changes("nosuch").await.is_err());
}

async fn commit(lab: Lab) {
    let id = lab.start("echo x > /tmp/new; rm /etc/plain; echo ready; sleep 1000", |_| {}).await;
    timeout(async { while lab.logs(&id).await.0.is_empty() {} }).await;
    let mut events = lab.engine.events();
    let options = CommitOptions {
        repo: "made".to_owned(),
        tag: "1".to_owned(),
        pause: true,
        changes: vec!["ENV A=given".to_owned()],
        ..CommitOptions::default()
    };
    let image = lab.engine.commit(&id, options.clone()).await.unwrap();
    assert_eq!(lab.status(&id), "running");
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if event.typ == EventType::Container {
            told.push(event.action);
        }
    }
    assert_eq!(told, ["pause", "unpause", "commit"]);
    let script = "cat /tmp/new; ls /etc/plain 2>/dev/null; echo $A";
    let (_, out, _) = lab.run(script, |body| body.image = Some("made:1".to_owned())).await;
    assert_eq!(out, "x\ngiven\n");
    let layers = lab.engine.images().inspect(&image).unwrap().root_fs.unwrap().layers.unwrap();
    assert_eq!(layers.len(), 2);
    // A bad name is refused before anything happens.
    let mut events = lab.engine.events();
    let bad = CommitOptions { repo: "NOT/Allowed".to_owned(), ..options };
    assert_eq!(lab.engine.commit(&id, bad).await.unwrap_err().kind(), ErrorKind::InvalidParameter);
    assert!(events.try_recv().is_err());
}

/// Reads a file of a container's cgroup, of whichever version has it.
fn limit(lab: &Lab, id: &str, files: &[&str]) -> String {
    let dirs = lab.cgroups(id);
    let mut found = dirs.iter().flat_map(|dir| files.iter().map(move |file| dir.join(file)));
    let text = found.find_map(|path| std::fs::read_to_string(path).ok());
    text.unwrap_or_else(|| panic!("none of {files:?} in {dirs:?}")).trim().to_owned()
}

const MEMORY: &[&str] = &["memory.limit_in_bytes", "memory.max"];
const PIDS: &[&str] = &["pids.max"];

async fn limits_change(lab: Lab) {
    let id = lab
        .start("sleep 1000", |body| {
            host(body).memory = Some(64 << 20);
            host(body).pids_limit = Some(20);
        })
        .await;
    let update = ContainerUpdateBody {
        memory: Some(256 << 20),
        memory_swap: Some(256 << 20),
        nano_cpus: Some(500_000_000),
        pids_limit: Some(33),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ALWAYS),
            maximum_retry_count: None,
        }),
        ..ContainerUpdateBody::default()
    };
    lab.engine.update(&id, update.clone()).await.unwrap();
    assert_eq!(
        (limit(&lab, &id, MEMORY), limit(&lab, &id, PIDS)),
        ((256 << 20).to_string(), "33".to_owned())
    );
    let cpu = limit(&lab, &id, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(cpu == "50000" || cpu == "50000 100000", "{cpu}");
    let shown = lab.engine.inspect(&id, false).unwrap().host_config.unwrap();
    assert_eq!((shown.memory, shown.pids_limit), (Some(256 << 20), Some(33)));
    assert_eq!(shown.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::ALWAYS));
    // Lowered again, which the kernel takes in another order.
    let lower =
        ContainerUpdateBody { memory: Some(32 << 20), memory_swap: Some(32 << 20), ..Default::default() };
    lab.engine.update(&id, lower).await.unwrap();
    assert_eq!(limit(&lab, &id, MEMORY), (32 << 20).to_string());
    assert_eq!(limit(&lab, &id, PIDS), "33");
    // Of what is refused in part nothing is kept.
    let bad = ContainerUpdateBody { cpuset_cpus: Some("4000".to_owned()), ..update };
    let error = lab.engine.update(&id, bad).await.unwrap_err();
    assert!(error.to_string().starts_with("Requested CPUs are not available - requested 4000"), "{error}");
    let shown = lab.engine.inspect(&id, false).unwrap().host_config.unwrap();
    assert_eq!((shown.cpuset_cpus.unwrap_or_default().as_str(), shown.memory), ("", Some(32 << 20)));
    assert_eq!((limit(&lab, &id, MEMORY), limit(&lab, &id, PIDS)), ((32 << 20).to_string(), "33".to_owned()));
    // The policy counts from now on.
    let pid = lab.pid(&id);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    timeout(async {
        while lab.status(&id) != "running" || lab.pid(&id) == pid {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(limit(&lab, &id, MEMORY), (32 << 20).to_string(), "and so do the limits, at every start");
}

async fn limits_of_a_stopped_container(mut lab: Lab) {
    let id = lab.create("sleep 1000", |_| {}).await;
    let memory = |memory, memory_swap| ContainerUpdateBody { memory, memory_swap, ..Default::default() };
    let error = lab.engine.update(&id, memory(Some(64 << 20), None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().starts_with(&format!("Cannot update container {id}: Memory limit should be")));
    lab.engine.update(&id, memory(Some(64 << 20), Some(-1))).await.unwrap();
    // With these it would never start again.
    for bad in [
        memory(None, Some(32 << 20)),
        ContainerUpdateBody { cpu_quota: Some(1), ..Default::default() },
        ContainerUpdateBody { cpuset_mems: Some("77".to_owned()), ..Default::default() },
    ] {
        assert_eq!(lab.engine.update(&id, bad).await.unwrap_err().kind(), ErrorKind::InvalidParameter);
    }
    lab.reopen(false).await;
    lab.engine.start(&id).await.unwrap();
    assert_eq!(limit(&lab, &id, MEMORY), (64 << 20).to_string());
}

/// The daemon was killed while it made an image of the container.
async fn left_frozen_is_thawed(mut lab: Lab) {
    lab.reopen(true).await;
    let (id, own) = (lab.start("sleep 1000", |_| {}).await, lab.start("sleep 1000", |_| {}).await);
    lab.engine.pause(&id).await.unwrap();
    lab.engine.pause(&own).await.unwrap();
    lab.engine.abandon();
    let path = lab.dir.path().join("data/containers").join(&id).join("state.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let by_commit = text.replace("\"paused_by_commit\":false", "\"paused_by_commit\":true");
    assert_ne!(text, by_commit);
    std::fs::write(&path, by_commit).unwrap();
    lab.reopen(true).await;
    assert_eq!(lab.status(&id), "running");
    assert_eq!(lab.exec(&id, &["echo", "thawed"]).await.1, "thawed\n");
    assert_eq!(lab.status(&own), "paused", "what its user has paused stays so");
    lab.engine.unpause(&own).await.unwrap();
}
