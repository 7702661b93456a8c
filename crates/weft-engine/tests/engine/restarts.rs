//! Restart policies, and daemons that come and go.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bollard_stubs::models::{RestartPolicy, RestartPolicyNameEnum};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use weft_engine::{AttachOptions, RemoveOptions, StopOptions, WaitCondition};

use crate::Test;
use crate::support::{Lab, collect, eventually, host, read_until, run, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("on_failure_gives_up_after_its_retries", || run(on_failure_gives_up)),
    ("always_restarts_until_stopped", || run(always_restarts_until_stopped)),
    ("a_forced_removal_wins_over_restarts", || run(a_forced_removal_wins_over_restarts)),
    ("a_folder_without_a_record_goes", || run(a_folder_without_a_record_goes)),
    ("live_restore_adopts_what_runs", || run(live_restore_adopts_what_runs)),
    ("what_runs_counts_not_what_was_saved", || run(what_runs_counts_not_what_was_saved)),
    ("a_shim_without_creator_ends", || run(a_shim_without_creator_ends)),
    ("a_start_ends_whenever_its_runtime_is_killed", || run(a_start_ends_whenever_its_runtime_is_killed)),
    ("a_creation_is_undone_whenever_its_creator_goes", || {
        run(a_creation_is_undone_whenever_its_creator_goes)
    }),
    ("a_created_container_is_undone_when_its_creator_goes", || {
        run(a_created_container_is_undone_when_its_creator_goes)
    }),
    ("a_creation_is_undone_whose_answer_cannot_be_heard", || {
        run(a_creation_is_undone_whose_answer_cannot_be_heard)
    }),
    ("a_start_that_cannot_go_on_leaves_nothing_behind", || run(a_start_that_cannot_go_on)),
    ("an_end_without_daemon_is_booked", || run(an_end_without_daemon_is_booked)),
    ("logs_go_on_without_daemon", || run(logs_go_on_without_daemon)),
    ("without_live_restore_survivors_are_stopped", || run(survivors_are_stopped)),
    ("shutdown_stops_with_grace", || run(shutdown_stops_with_grace)),
    ("policies_act_at_the_next_start", || run(policies_act_at_the_next_start)),
    ("a_vanished_shim_is_an_unknown_end", || run(a_vanished_shim)),
];

fn policy(name: RestartPolicyNameEnum, retries: i64) -> Option<RestartPolicy> {
    Some(RestartPolicy { name: Some(name), maximum_retry_count: Some(retries) })
}

fn restarts(lab: &Lab, id: &str) -> i64 {
    lab.engine.inspect(id, false).unwrap().restart_count.unwrap()
}

async fn on_failure_gives_up(lab: Lab) {
    let id = lab
        .start("echo run; exit 1", |body| {
            host(body).restart_policy = policy(RestartPolicyNameEnum::ON_FAILURE, 2);
        })
        .await;
    eventually(|| (lab.status(&id) == "exited" && restarts(&lab, &id) == 2).then_some(())).await;
    assert_eq!(lab.logs(&id).await.0, "run\nrun\nrun\n");
    let (code, _, _) = lab
        .run("exit 0", |body| {
            host(body).restart_policy = policy(RestartPolicyNameEnum::ON_FAILURE, 2);
        })
        .await;
    assert_eq!(code, 0);
}

async fn always_restarts_until_stopped(lab: Lab) {
    let id = lab
        .start("sleep 0.05", |body| {
            host(body).restart_policy = policy(RestartPolicyNameEnum::ALWAYS, 0);
        })
        .await;
    eventually(|| (restarts(&lab, &id) >= 2).then_some(())).await;
    lab.engine.stop(&id, StopOptions { timeout: Some(1), signal: None }).await.unwrap();
    let count = restarts(&lab, &id);
    assert_eq!(lab.status(&id), "exited");
    lab.run("sleep 0.5", |_| {}).await;
    assert_eq!((lab.status(&id).as_str(), restarts(&lab, &id)), ("exited", count));
}

async fn a_forced_removal_wins_over_restarts(lab: Lab) {
    for round in 0..10 {
        let id = lab
            .start("exit 1", |body| {
                host(body).restart_policy = policy(RestartPolicyNameEnum::ALWAYS, 0);
            })
            .await;
        eventually(|| (restarts(&lab, &id) >= round % 3).then_some(())).await;
        lab.engine.remove(&id, RemoveOptions { force: true, volumes: false }).await.unwrap();
        assert!(lab.engine.inspect(&id, false).is_err());
    }
}

async fn a_folder_without_a_record_goes(mut lab: Lab) {
    let begun = lab.dir.path().join("data/containers").join("ab".repeat(32));
    std::fs::create_dir(&begun).unwrap();
    std::fs::write(begun.join(".container.json.tmp"), "{").unwrap();
    lab.engine.shutdown().await;
    lab.reopen(true).await;
    assert!(!begun.exists());
}

async fn live_restore_adopts_what_runs(mut lab: Lab) {
    lab.reopen(true).await;
    let id = lab
        .start("while read line; do echo got $line; done; exit 3", |body| {
            body.open_stdin = Some(true);
            body.stdin_once = Some(true);
        })
        .await;
    let pid = lab.pid(&id);
    lab.engine.shutdown().await;
    lab.reopen(true).await;
    assert_eq!((lab.status(&id).as_str(), lab.pid(&id)), ("running", pid));
    assert_eq!(lab.network.adopted.lock().unwrap().len(), 1);
    let options = AttachOptions { stdin: true, stdout: true, stderr: true, logs: false, stream: true };
    let mut streams = lab.engine.attach(&id, options).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"again\n").await.unwrap();
    read_until(&mut streams.output, "got again\n").await;
    assert_eq!(lab.exec(&id, &["echo", "exec works"]).await.1, "exec works\n");
    let wait = lab.engine.wait(&id, WaitCondition::NotRunning).unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut stdin).await.unwrap();
    collect(streams.output).await;
    assert_eq!(timeout(wait).await.status_code, 3);
}

/// The disk was full when it started, and the daemon was killed before there was room again.
async fn what_runs_counts_not_what_was_saved(mut lab: Lab) {
    lab.reopen(true).await;
    let id = lab.start("sleep 1000", |_| {}).await;
    let (pid, shim) = (lab.pid(&id), eventually(|| lab.shim(&id)).await);
    lab.engine.shutdown().await;
    std::fs::remove_file(lab.dir.path().join("data/containers").join(&id).join("state.json")).unwrap();
    lab.reopen(true).await;
    assert_eq!((lab.status(&id).as_str(), lab.pid(&id), lab.shim(&id)), ("running", pid, Some(shim)));
    assert_eq!(lab.network.adopted.lock().unwrap().len(), 1);
    lab.engine.kill(&id, None).await.unwrap();
    eventually(|| (lab.status(&id) == "exited").then_some(())).await;
}

/// The daemon was killed when it had started the shim and had not asked it for anything yet.
async fn a_shim_without_creator_ends(mut lab: Lab) {
    lab.reopen(true).await;
    let (first, second) = (lab.start("sleep 1000", |_| {}).await, lab.create("sleep 1000", |_| {}).await);
    lab.engine.shutdown().await;
    let bundles = lab.dir.path().join("run/containers");
    std::fs::create_dir_all(bundles.join(&second)).unwrap();
    let config = std::fs::read_to_string(bundles.join(&first).join("shim.json")).unwrap();
    let config = config.replace(&first, &second);
    std::fs::write(bundles.join(&second).join("shim.json"), config).unwrap();
    let mut shim = shim(&bundles.join(&second));
    lab.reopen(true).await;
    assert_eq!(lab.cgroups(&second), Vec::<std::path::PathBuf>::new());
    eventually(|| shim.try_wait().unwrap()).await;
    assert_eq!((lab.status(&first).as_str(), lab.status(&second).as_str()), ("running", "created"));
    lab.engine.start(&second).await.unwrap();
    for id in [first, second] {
        lab.engine.kill(&id, None).await.unwrap();
    }
}

/// A shim that listens.
fn shim(bundle: &Path) -> Child {
    let mut shim = Command::new(std::env::current_exe().unwrap());
    let log = std::fs::File::create(bundle.join("shim.log")).unwrap();
    let mut shim = shim.arg("shim").arg(bundle).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    shim.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    shim
}

async fn a_start_ends_whenever_its_runtime_is_killed(lab: Lab) {
    let mut failed = 0;
    for round in 0..30u64 {
        let id = lab.create("sleep 1000", |_| {}).await;
        let (engine, container) = (lab.engine.clone(), id.clone());
        let start = tokio::spawn(async move { engine.start(&container).await });
        let find = || lab.runtime(&id).or((start.is_finished()).then_some(0));
        let runtime = eventually(find).await;
        tokio::time::sleep(Duration::from_millis(2 * round)).await;
        if runtime > 0 {
            let _ = nix::sys::signal::kill(Pid::from_raw(runtime), Signal::SIGKILL);
        }
        let started = timeout(start).await.unwrap();
        let status = lab.status(&id);
        assert_eq!(status, if started.is_ok() { "running" } else { "created" }, "{started:?}");
        failed += usize::from(started.is_err());
        let force = RemoveOptions { force: true, volumes: true };
        lab.engine.remove(&id, force).await.unwrap();
    }
    assert!(failed > 0, "no start was hit");
}

/// As if the daemon were killed on the way to a running process.
async fn a_creation_is_undone_whenever_its_creator_goes(mut lab: Lab) {
    lab.reopen(true).await;
    let mut undone = 0;
    for round in 0..30u64 {
        let id = lab.create("sleep 1000", |_| {}).await;
        let (engine, container) = (lab.engine.clone(), id.clone());
        let start = tokio::spawn(async move { engine.start(&container).await });
        eventually(|| lab.runtime(&id).or(start.is_finished().then_some(0))).await;
        tokio::time::sleep(Duration::from_millis(2 * round)).await;
        start.abort();
        let started = start.await.is_ok();
        // Where the start was on its way, the process runs, and the next daemon finds it.
        lab.reopen(true).await;
        let runs = lab.status(&id) == "running";
        assert!(runs || !started);
        undone += usize::from(!runs);
        if !runs {
            eventually(|| lab.processes(&id).is_empty().then_some(())).await;
        }
        lab.engine.remove(&id, RemoveOptions { force: true, volumes: true }).await.unwrap();
    }
    assert!(undone > 0, "no creation was hit");
}

/// The same in one instant: everything is made, and the word to go on never comes. Who looks too late finds a container
/// that runs already, and takes another one.
async fn a_created_container_is_undone_when_its_creator_goes(lab: Lab) {
    for _ in 0..20 {
        let id = lab.create("sleep 1000", |_| {}).await;
        if is_left_when_created(&lab, &id).await {
            eventually(|| lab.processes(&id).is_empty().then_some(())).await;
            return;
        }
        lab.engine.remove(&id, RemoveOptions { force: true, volumes: true }).await.unwrap();
    }
    panic!("the instant was never met");
}

/// Starts a container and goes away once it is made; false: it ran already.
async fn is_left_when_created(lab: &Lab, id: &str) -> bool {
    // What the runtime library knows: begun once the container is asked for.
    let library = lab.dir.path().join("run/containers").join(id).join("state");
    let mut start = Box::pin(lab.engine.start(id));
    tokio::select! {
        started = &mut start => {
            started.unwrap();
            return false;
        }
        _ = eventually(|| library.exists().then_some(())) => {}
    }
    // Nobody drives the start from here on.
    let state = library.join(id).join("state.json");
    let is_made = |text: &String| ["\"created\"", "\"running\""].iter().any(|status| text.contains(status));
    let text = eventually(|| std::fs::read_to_string(&state).ok().filter(is_made)).await;
    if text.contains("\"running\"") {
        start.await.unwrap();
        return false;
    }
    true
}

/// The shim's creator is this test: it asks, and hears nothing from then on. Where it has gone altogether, its end may be
/// seen first; where it only does not read any more, nothing but the answer itself can tell.
async fn a_creation_is_undone_whose_answer_cannot_be_heard(lab: Lab) {
    let like = lab.start("sleep 1000", |_| {}).await;
    for (id, closed) in [("a".repeat(64), Shutdown::Read), ("b".repeat(64), Shutdown::Both)] {
        let bundle = lab.dir.path().join(&id[..8]);
        copy_bundle(&lab.dir.path().join("run/containers").join(&like), &bundle, &id);
        let mut shim = shim(&bundle);
        let mut creator = UnixStream::connect(bundle.join("shim.sock")).unwrap();
        // Nothing is said before something is asked for.
        creator.shutdown(Shutdown::Read).unwrap();
        creator.write_all(b"{\"op\":\"create\"}\n").unwrap();
        if closed == Shutdown::Both {
            creator.shutdown(closed).unwrap();
        }
        assert!(eventually(|| shim.try_wait().unwrap()).await.success());
        assert_eq!((lab.processes(&id), lab.cgroups(&id)), (Vec::new(), Vec::new()));
        assert!(bundle.join("exit.json").exists() && !bundle.join("state").exists());
        let log = std::fs::read_to_string(bundle.join("shim.log")).unwrap();
        assert!(log.contains("the creator went away before the start"), "{log}");
    }
    assert_eq!(lab.status(&like), "running");
}

/// The network says no while the shim and its runtime are on their way into the cgroup.
async fn a_start_that_cannot_go_on(lab: Lab) {
    for _ in 0..20 {
        let id = lab.create("sleep 1000", |body| host(body).network_mode = Some("nosuch".into())).await;
        lab.engine.start(&id).await.unwrap_err();
        assert_eq!((lab.processes(&id), lab.cgroups(&id)), (Vec::new(), Vec::new()));
        assert!(!lab.dir.path().join("run/containers").join(&id).exists());
    }
}

/// A bundle for another container with the same root.
fn copy_bundle(from: &Path, to: &Path, id: &str) {
    std::fs::create_dir(to).unwrap();
    let cgroup = format!("/weft/{id}");
    let copy = |name: &str, changes: &[(&str, serde_json::Value)]| {
        let text = std::fs::read_to_string(from.join(name)).unwrap();
        let mut content: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (pointer, value) in changes {
            *content.pointer_mut(pointer).unwrap() = value.clone();
        }
        std::fs::write(to.join(name), content.to_string()).unwrap();
    };
    copy("shim.json", &[("/id", id.into()), ("/cgroup", cgroup.as_str().into()), ("/log", ().into())]);
    copy("config.json", &[("/linux/cgroupsPath", cgroup.as_str().into())]);
}

async fn an_end_without_daemon_is_booked(mut lab: Lab) {
    lab.reopen(true).await;
    let id = lab.start("while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 42", |_| {}).await;
    let gone = lab
        .start("while [ ! -e /tmp/go ]; do sleep 0.02; done", |body| host(body).auto_remove = Some(true))
        .await;
    let pids = [lab.pid(&id), lab.pid(&gone)];
    lab.engine.abandon();
    for pid in pids {
        std::fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
        eventually(|| (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())).await;
    }
    let exit = |id: &str| lab.dir.path().join("run/containers").join(id).join("exit.json");
    eventually(|| (exit(&id).exists() && exit(&gone).exists()).then_some(())).await;
    lab.reopen(true).await;
    let state = lab.engine.inspect(&id, false).unwrap().state.unwrap();
    assert_eq!((state.exit_code, state.running), (Some(42), Some(false)));
    assert!(lab.engine.inspect(&gone, false).is_err());
    assert_eq!(lab.network.count(), 0);
}

async fn logs_go_on_without_daemon(mut lab: Lab) {
    lab.reopen(true).await;
    let id =
        lab.start("i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.02; done", |_| {}).await;
    let log = lab.engine.inspect(&id, false).unwrap().log_path.unwrap();
    lab.engine.abandon();
    eventually(|| std::fs::read_to_string(&log).ok().filter(|text| text.contains("line 39\\n"))).await;
    lab.reopen(true).await;
    let expected: String = (0..40).map(|number| format!("line {number}\n")).collect();
    assert_eq!(lab.logs(&id).await.0, expected);
}

/// Whether a process has a handler for SIGTERM (15).
fn catches_term(pid: i64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & (1 << 14) != 0)
}

fn is_gone(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

async fn survivors_are_stopped(mut lab: Lab) {
    let id = lab.start("trap 'exit 5' TERM; while :; do sleep 0.02; done", |_| {}).await;
    let again = lab
        .start("trap 'exit 6' TERM; while :; do sleep 0.02; done", |body| {
            host(body).restart_policy = policy(RestartPolicyNameEnum::UNLESS_STOPPED, 0);
        })
        .await;
    let old = lab.pid(&again);
    for pid in [old, lab.pid(&id)] {
        eventually(|| catches_term(pid).then_some(())).await;
    }
    lab.engine.abandon();
    lab.reopen(false).await;
    let state = lab.engine.inspect(&id, false).unwrap().state.unwrap();
    assert_eq!((state.running, state.exit_code), (Some(false), Some(5)));
    eventually(|| (lab.status(&again) == "running" && lab.pid(&again) != old).then_some(())).await;
}

async fn shutdown_stops_with_grace(mut lab: Lab) {
    let id =
        lab.start("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.02; done", |_| {}).await;
    let log = lab.engine.inspect(&id, false).unwrap().log_path.unwrap();
    eventually(|| std::fs::read_to_string(&log).ok().filter(|text| text.contains("ready"))).await;
    lab.engine.shutdown().await;
    lab.reopen(false).await;
    assert_eq!(lab.engine.inspect(&id, false).unwrap().state.unwrap().exit_code, Some(5));
    assert_eq!(lab.logs(&id).await.0, "ready\nbye\n");
}

async fn policies_act_at_the_next_start(mut lab: Lab) {
    let always = lab
        .start("exec sleep 1000", |body| {
            host(body).restart_policy = policy(RestartPolicyNameEnum::ALWAYS, 0);
        })
        .await;
    let unless = lab
        .start("exec sleep 1000", |body| {
            host(body).restart_policy = policy(RestartPolicyNameEnum::UNLESS_STOPPED, 0);
        })
        .await;
    let never = lab
        .create("exec sleep 1000", |body| {
            host(body).restart_policy = policy(RestartPolicyNameEnum::ALWAYS, 0);
        })
        .await;
    for id in [&always, &unless] {
        lab.engine.stop(id, StopOptions { timeout: Some(0), signal: None }).await.unwrap();
    }
    lab.engine.shutdown().await;
    lab.reopen(false).await;
    eventually(|| (lab.status(&always) == "running").then_some(())).await;
    assert_eq!((lab.status(&unless).as_str(), lab.status(&never).as_str()), ("exited", "created"));
}

async fn a_vanished_shim(lab: Lab) {
    let id = lab.start("exec sleep 1000", |_| {}).await;
    let pid = lab.pid(&id);
    let shim = eventually(|| lab.shim(&id)).await;
    let kill = |pid: i32| {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    kill(shim);
    // Its container goes with it: nobody could tell its end.
    eventually(|| (lab.status(&id) == "exited").then_some(())).await;
    assert_eq!(lab.engine.inspect(&id, false).unwrap().state.unwrap().exit_code, Some(255));
    // Whoever is its parent now may take a moment to collect it.
    eventually(|| is_gone(pid).then_some(())).await;
    lab.engine.start(&id).await.unwrap();
    assert_eq!(lab.status(&id), "running");
}
