//! From create to remove.

use std::time::{Duration, Instant};

use bollard_stubs::models::ResourcesUlimits;
use weft_engine::{EventType, ListOptions, RemoveOptions, StopOptions, WaitCondition};
use weft_types::{Classified, ErrorKind};

use crate::Test;
use crate::support::{Lab, eventually, host, run, shell, timeout};

pub(crate) const TESTS: &[Test] = &[
    ("run_gives_output_and_exit_code", || run(run_gives_output_and_exit_code)),
    ("a_stop_right_after_the_start_is_heard", || run(a_stop_right_after_the_start)),
    ("unknown_programs_are_127_and_126", || run(unknown_programs)),
    ("environment_user_and_directory", || run(environment_user_and_directory)),
    ("etc_files_and_hostname", || run(etc_files_and_hostname)),
    ("mounts_of_all_kinds", || run(mounts_of_all_kinds)),
    ("read_only_root", || run(read_only_root)),
    ("limits_reach_the_kernel", || run(limits_reach_the_kernel)),
    ("stop_asks_first_and_kills_then", || run(stop_asks_first_and_kills_then)),
    ("kill_and_its_refusals", || run(kill_and_its_refusals)),
    ("pause_freezes", || run(pause_freezes)),
    ("auto_remove_removes", || run(auto_remove_removes)),
    ("names_conflicts_and_prefixes", || run(names_conflicts_and_prefixes)),
    ("list_filters_and_status", || run(list_filters_and_status)),
    ("events_tell_the_story", || run(events_tell_the_story)),
    ("bad_requests_are_refused", || run(bad_requests_are_refused)),
    ("a_failed_start_leaves_nothing", || run(a_failed_start_leaves_nothing)),
    ("volumes_live_on", || run(volumes_live_on)),
    ("shared_namespaces", || run(shared_namespaces)),
    ("one_more_container_is_cheap", || run(one_more_container_is_cheap)),
];

async fn run_gives_output_and_exit_code(lab: Lab) {
    let begin = Instant::now();
    let (code, out, err) = lab.run("echo out; echo err >&2; exit 7", |_| {}).await;
    println!("    run took {:?}", begin.elapsed());
    assert_eq!((code, out.as_str(), err.as_str()), (7, "out\n", "err\n"));
    let (code, _, _) = lab.run("sh -c 'kill -9 $$'; exit $?", |_| {}).await;
    assert_eq!(code, 137);
    assert_eq!(lab.network.count(), 0);
}

async fn unknown_programs(lab: Lab) {
    let start = async |words: &[&str]| {
        let mut body = shell("");
        body.cmd = Some(words.iter().map(|word| (*word).to_owned()).collect());
        let id = lab.engine.create(None, body).await.unwrap().id.to_string();
        let error = lab.engine.start(&id).await.unwrap_err();
        let code = lab.engine.inspect(&id, false).unwrap().state.unwrap().exit_code.unwrap();
        (error.kind(), error.to_string(), code)
    };
    let (kind, text, code) = start(&["nosuchcmd"]).await;
    assert_eq!((kind, code), (ErrorKind::InvalidParameter, 127));
    assert!(
        text.ends_with(
            "error during container init: exec: \"nosuchcmd\": executable file not found in $PATH"
        ),
        "{text}"
    );
    let (_, text, code) = start(&["/no/such"]).await;
    assert_eq!(code, 127);
    assert!(text.ends_with("exec: \"/no/such\": stat /no/such: no such file or directory"), "{text}");
    let (_, text, code) = start(&["/etc/plain"]).await;
    assert_eq!(code, 126);
    assert!(text.ends_with("exec: \"/etc/plain\": permission denied"), "{text}");
}

async fn environment_user_and_directory(lab: Lab) {
    let (_, out, _) = lab
        .run("echo $A-$B; pwd; id; echo $HOME", |body| {
            body.env = Some(vec!["A=1".into(), "B=two words".into()]);
            body.working_dir = Some("/made/for/me".into());
            body.user = Some("web".into());
        })
        .await;
    assert_eq!(
        out,
        "1-two words\n/made/for/me\nuid=1000(web) gid=1001(web) groups=50(media),1001(web)\n/tmp\n"
    );
    let (_, out, _) = lab.run("id -u; id -g", |body| body.user = Some("123:456".into())).await;
    assert_eq!(out, "123\n456\n");
    let id = lab.create("true", |body| body.user = Some("nosuch".into())).await;
    let error = lab.engine.start(&id).await.unwrap_err();
    assert_eq!(error.to_string(), "unable to find user nosuch: no matching entries in passwd file");
    // Another user may open its own standard output.
    let (code, out, _) = lab.run("echo x > /dev/stdout", |body| body.user = Some("web".into())).await;
    assert_eq!((code, out.as_str()), (0, "x\n"));
}

async fn etc_files_and_hostname(lab: Lab) {
    let script = "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; echo $HOSTNAME";
    let (_, out, _) = lab.run(script, |body| body.hostname = Some("loom".into())).await;
    assert_eq!(out, "loom\nloom\n127.0.0.1 localhost\nnameserver 127.0.0.11\nloom\n");
    let id = lab.create("hostname", |_| {}).await;
    assert_eq!(lab.engine.inspect(&id, false).unwrap().config.unwrap().hostname.unwrap(), id[..12]);
}

async fn mounts_of_all_kinds(lab: Lab) {
    let source = lab.dir.path().join("shared");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("in"), "hello").unwrap();
    let bind = format!("{}:/shared", source.display());
    let readonly = format!("{}:/fixed:ro", source.display());
    let script = "cat /shared/in; echo back > /shared/out; touch /fixed/x || echo fixed; \
                  grep ' /scratch ' /proc/mounts | cut -d' ' -f3,4; df -P /dev/shm | tail -1 | awk '{print $2}'";
    let (_, out, _) = lab
        .run(script, |body| {
            host(body).binds = Some(vec![bind, readonly]);
            host(body).tmpfs = Some([("/scratch".to_owned(), "size=1m".to_owned())].into());
            host(body).shm_size = Some(2 << 20);
        })
        .await;
    assert!(out.starts_with("hellofixed\ntmpfs rw,nosuid,nodev,noexec"), "{out}");
    assert!(out.contains("size=1024k") && out.ends_with("\n2048\n"), "{out}");
    assert_eq!(std::fs::read_to_string(source.join("out")).unwrap(), "back\n");
}

async fn read_only_root(lab: Lab) {
    let (_, out, _) = lab
        .run("touch /x || echo no; echo y > /tmp/y && cat /tmp/y", |body| {
            host(body).readonly_rootfs = Some(true);
            host(body).tmpfs = Some([("/tmp".to_owned(), String::new())].into());
        })
        .await;
    assert_eq!(out, "no\ny\n");
}

async fn limits_reach_the_kernel(lab: Lab) {
    let id = lab
        .start("ulimit -n; exec sleep 1000", |body| {
            let host = host(body);
            host.memory = Some(64 << 20);
            host.nano_cpus = Some(500_000_000);
            host.pids_limit = Some(50);
            let limit = ResourcesUlimits { name: Some("nofile".into()), soft: Some(100), hard: Some(200) };
            host.ulimits = Some(vec![limit]);
        })
        .await;
    let read = |file: &str| {
        let found = lab.cgroups(&id).into_iter().find_map(|dir| std::fs::read_to_string(dir.join(file)).ok());
        found.map(|text| text.trim().to_owned())
    };
    let memory = read("memory.limit_in_bytes").or_else(|| read("memory.max"));
    assert_eq!(memory.as_deref(), Some("67108864"));
    let cpu = read("cpu.cfs_quota_us").or_else(|| read("cpu.max"));
    assert!(matches!(cpu.as_deref(), Some("50000" | "50000 100000")), "{cpu:?}");
    assert_eq!(read("pids.max").as_deref(), Some("50"));
    eventually(|| std::fs::read_to_string(log_file(&lab, &id)).ok().filter(|log| log.contains("100\\n")))
        .await;
    // A directory of its own in the second version, also on a hybrid host.
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", lab.pid(&id))).unwrap();
    assert!(own.contains(&format!("0::/weft/{id}")), "{own}");
    lab.engine.kill(&id, None).await.unwrap();
    assert_eq!(lab.cgroups(&id), Vec::<std::path::PathBuf>::new());
}

fn log_file(lab: &Lab, id: &str) -> String {
    lab.engine.inspect(id, false).unwrap().log_path.unwrap()
}

/// Before it has asked for the signal, the kernel would drop it.
async fn a_stop_right_after_the_start(lab: Lab) {
    let slow =
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; trap 'exit 7' TERM; while :; do sleep 0.1; done";
    let id = lab.start(slow, |_| {}).await;
    lab.engine.stop(&id, StopOptions::default()).await.unwrap();
    assert_eq!(lab.engine.inspect(&id, false).unwrap().state.unwrap().exit_code, Some(7));
    // An init waits for signals, and passes them on: nobody has to wait for it.
    for _ in 0..5 {
        let begin = Instant::now();
        let id = lab.start("exec sleep 100", |body| host(body).init = Some(true)).await;
        lab.engine.stop(&id, StopOptions::default()).await.unwrap();
        assert_eq!(lab.engine.inspect(&id, false).unwrap().state.unwrap().exit_code, Some(143));
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    }
}

async fn stop_asks_first_and_kills_then(lab: Lab) {
    let polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let id = lab.start(polite, |_| {}).await;
    eventually(|| std::fs::read_to_string(log_file(&lab, &id)).ok().filter(|log| log.contains("ready")))
        .await;
    lab.engine.stop(&id, StopOptions::default()).await.unwrap();
    assert_eq!(lab.logs(&id).await.0, "ready\nbye\n");
    assert_eq!(lab.engine.inspect(&id, false).unwrap().state.unwrap().exit_code, Some(3));
    let again = lab.engine.stop(&id, StopOptions::default()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotModified);
    let stubborn = lab.start("trap '' TERM; while :; do sleep 0.1; done", |_| {}).await;
    let begin = Instant::now();
    lab.engine.stop(&stubborn, StopOptions { timeout: Some(1), signal: None }).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1) && begin.elapsed() < Duration::from_secs(8));
    assert_eq!(lab.engine.inspect(&stubborn, false).unwrap().state.unwrap().exit_code, Some(137));
    lab.engine.restart(&id, StopOptions::default()).await.unwrap();
    assert_eq!(lab.status(&id), "running");
}

async fn kill_and_its_refusals(lab: Lab) {
    let id = lab.start("trap 'echo usr; exit 5' USR1; echo ready; while :; do sleep 0.1; done", |_| {}).await;
    eventually(|| std::fs::read_to_string(log_file(&lab, &id)).ok().filter(|log| log.contains("ready")))
        .await;
    let wait = lab.engine.wait(&id, WaitCondition::NotRunning).unwrap();
    lab.engine.kill(&id, Some("SIGUSR1")).await.unwrap();
    assert_eq!(timeout(wait).await.status_code, 5);
    let text = |error: weft_engine::EngineError| (error.kind(), error.to_string());
    assert_eq!(
        text(lab.engine.kill(&id, None).await.unwrap_err()),
        (ErrorKind::Conflict, format!("cannot kill container: {id}: container {id} is not running"))
    );
    assert_eq!(
        text(lab.engine.kill(&id, Some("BOGUS")).await.unwrap_err()),
        (ErrorKind::InvalidParameter, format!("cannot kill container: {id}: invalid signal: BOGUS"))
    );
    assert_eq!(
        text(lab.engine.kill("nosuch", None).await.unwrap_err()),
        (ErrorKind::NotFound, "cannot kill container: nosuch: No such container: nosuch".to_owned())
    );
}

async fn pause_freezes(lab: Lab) {
    let id = lab.start("while :; do date +%s%N > /now; done", |_| {}).await;
    lab.engine.pause(&id).await.unwrap();
    assert_eq!(lab.status(&id), "paused");
    let error = lab.engine.pause(&id).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Container {id} is already paused"));
    lab.engine.unpause(&id).await.unwrap();
    assert_eq!(lab.status(&id), "running");
    lab.engine.pause(&id).await.unwrap();
    lab.engine.kill(&id, None).await.unwrap();
    assert_eq!(lab.status(&id), "exited");
}

async fn auto_remove_removes(lab: Lab) {
    let id = lab.create("exit 4", |body| host(body).auto_remove = Some(true)).await;
    let removed = lab.engine.wait(&id, WaitCondition::Removed).unwrap();
    lab.engine.start(&id).await.unwrap();
    assert_eq!(timeout(removed).await.status_code, 4);
    assert_eq!(lab.engine.inspect(&id, false).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!lab.dir.path().join("data/containers").join(&id).exists());
}

async fn names_conflicts_and_prefixes(lab: Lab) {
    let first = lab.engine.create(Some("web"), shell("true")).await.unwrap().id.to_string();
    let error = lab.engine.create(Some("web"), shell("true")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{first}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    assert_eq!(lab.engine.container_id("web").unwrap().as_str(), first);
    assert_eq!(lab.engine.container_id("/web").unwrap().as_str(), first);
    assert_eq!(lab.engine.container_id(&first[..8]).unwrap().as_str(), first);
    let error = lab.engine.create(Some("-web"), shell("true")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Invalid container name (-web), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    );
    lab.engine.create(Some("db"), shell("true")).await.unwrap();
    assert!(
        lab.engine
            .rename("web", "db")
            .await
            .unwrap_err()
            .to_string()
            .starts_with("Error when allocating new name: Conflict.")
    );
    assert!(lab.engine.rename("web", "web").await.is_err());
    assert_eq!(
        lab.engine.rename("web", "a/b").await.unwrap_err().to_string(),
        "Error when allocating new name: Invalid container name (/a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    );
    lab.engine.rename("web", "www").await.unwrap();
    assert!(lab.engine.container_id("web").is_err());
    assert_eq!(lab.engine.inspect("www", false).unwrap().name.as_deref(), Some("/www"));
}

async fn list_filters_and_status(lab: Lab) {
    let up =
        lab.start("sleep 1000", |body| body.labels = Some([("tier".into(), "front".into())].into())).await;
    lab.run("exit 3", |_| {}).await;
    lab.create("true", |_| {}).await;
    let list = |all: bool, filter: Option<(&str, &str)>| {
        let filters =
            filter.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).into_iter().collect();
        lab.engine.list(&ListOptions { all, filters, ..ListOptions::default() })
    };
    assert_eq!(list(false, None).unwrap().len(), 1);
    assert_eq!(list(true, None).unwrap().len(), 3);
    let exited = list(true, Some(("status", "exited"))).unwrap();
    assert_eq!(exited.len(), 1);
    assert!(exited[0].status.as_deref().unwrap().starts_with("Exited (3) "), "{exited:?}");
    assert_eq!(list(false, Some(("exited", "3"))).unwrap().len(), 1);
    assert_eq!(list(false, Some(("label", "tier=front"))).unwrap()[0].id.as_deref(), Some(up.as_str()));
    assert_eq!(list(true, Some(("ancestor", crate::support::IMAGE))).unwrap().len(), 3);
    assert_eq!(list(true, Some(("status", "created"))).unwrap()[0].status.as_deref(), Some("Created"));
    assert_eq!(list(true, Some(("bogus", "1"))).unwrap_err().to_string(), "invalid filter 'bogus'");
    assert_eq!(
        list(true, Some(("status", "bogus"))).unwrap_err().to_string(),
        "invalid filter 'status=bogus': invalid value for state (bogus): must be one of created, running, paused, restarting, removing, exited, dead"
    );
    let top = lab.engine.top(&up, "").await.unwrap();
    assert!(top.processes.unwrap().iter().any(|row| row.last().unwrap().contains("sleep 1000")));
}

async fn events_tell_the_story(lab: Lab) {
    let mut events = lab.engine.events();
    let id = lab.create("exit 2", |body| host(body).auto_remove = Some(true)).await;
    let removed = lab.engine.wait(&id, WaitCondition::Removed).unwrap();
    lab.engine.start(&id).await.unwrap();
    timeout(removed).await;
    let mut actions = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!((event.typ, event.id.as_str()), (EventType::Container, id.as_str()));
        assert_eq!(event.attributes["image"], crate::support::IMAGE);
        if event.action == "die" {
            assert_eq!(event.attributes["exitCode"], "2");
        }
        actions.push(event.action);
    }
    assert_eq!(actions, ["create", "start", "die", "destroy"]);
}

async fn bad_requests_are_refused(lab: Lab) {
    let refuse = async |change: &dyn Fn(&mut bollard_stubs::models::ContainerCreateBody)| {
        let mut body = shell("true");
        change(&mut body);
        lab.engine.create(None, body).await.unwrap_err().to_string()
    };
    assert_eq!(refuse(&|body| body.image = Some("nosuch".into())).await, "No such image: nosuch:latest");
    assert_eq!(
        refuse(&|body| body.image = Some("BAD".into())).await,
        "invalid reference format: repository name (library/BAD) must be lowercase"
    );
    assert_eq!(refuse(&|body| body.cmd = None).await, "no command specified");
    assert_eq!(
        refuse(&|body| host(body).cap_add = Some(vec!["BOGUS".into()])).await,
        "invalid CapAdd: unknown capability: \"CAP_BOGUS\""
    );
    assert_eq!(
        refuse(&|body| host(body).memory = Some(1 << 20)).await,
        "Minimum memory limit allowed is 6MB"
    );
    assert_eq!(
        refuse(&|body| host(body).runtime = Some("bogus".into())).await,
        "unknown or invalid runtime name: bogus"
    );
    assert!(
        refuse(&|body| host(body).nano_cpus = Some(99_000_000_000))
            .await
            .starts_with("range of CPUs is from 0.01 to ")
    );
    assert!(
        refuse(&|body| host(body).binds = Some(vec!["rel/path:/x".into()]))
            .await
            .starts_with("create rel/path: \"rel/path\" includes invalid characters for a local volume name")
    );
    assert!(
        refuse(&|body| host(body).security_opt = Some(vec!["bogus".into()]))
            .await
            .starts_with("invalid --security-opt")
    );
    let all = lab.engine.list(&ListOptions { all: true, ..ListOptions::default() }).unwrap();
    assert!(all.is_empty());
}

async fn a_failed_start_leaves_nothing(lab: Lab) {
    let id = lab.create("true", |body| host(body).network_mode = Some("nosuch".into())).await;
    let error = lab.engine.start(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "failed to set up container networking: network nosuch not found");
    assert_eq!(lab.status(&id), "created");
    assert_eq!(lab.network.count(), 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(lab.dir.path().to_str().unwrap()));
    // A shim whose runtime fails leaves nothing either.
    let id = lab
        .create("true", |body| host(body).sysctls = Some([("no.such.key".into(), "1".into())].into()))
        .await;
    let error = lab.engine.start(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System, "{error}");
    assert_eq!(lab.cgroups(&id), Vec::<std::path::PathBuf>::new());
    assert_eq!(lab.network.count(), 0);
}

async fn volumes_live_on(lab: Lab) {
    let volume = |body: &mut bollard_stubs::models::ContainerCreateBody| {
        host(body).binds = Some(vec!["store:/data".to_owned()]);
    };
    let (_, out, _) = lab.run("cat /data/first; echo more > /data/second", volume).await;
    assert_eq!(out, "from the image\n");
    let (_, out, _) = lab.run("cat /data/second", volume).await;
    assert_eq!(out, "more\n");
    let anonymous = lab.create("true", |body| body.volumes = Some(vec!["/data".to_owned()])).await;
    assert_eq!(lab.engine.volumes().list().len(), 2);
    lab.engine.remove(&anonymous, RemoveOptions { volumes: true, force: false }).await.unwrap();
    assert_eq!(lab.engine.volumes().list().len(), 1);
    let error = lab.engine.remove_volume("store", false).unwrap_err();
    assert!(error.to_string().starts_with("remove store: volume is in use - ["), "{error}");
}

async fn shared_namespaces(lab: Lab) {
    let first = lab.start("sleep 1000", |_| {}).await;
    let netns = |id: &str| std::fs::read_link(format!("/proc/{}/ns/net", lab.pid(id))).unwrap();
    let second = lab
        .start("sleep 1000", |body| {
            host(body).network_mode = Some(format!("container:{first}"));
            host(body).pid_mode = Some(format!("container:{first}"));
            host(body).ipc_mode = Some(format!("container:{first}"));
        })
        .await;
    assert_eq!(netns(&first), netns(&second));
    let (_, out, _) = lab.exec(&second, &["sh", "-c", "ps | grep -c 'sleep 1000'"]).await;
    assert!(out.trim().parse::<i32>().unwrap() >= 2, "{out}");
    let alone = lab
        .create("true", |body| {
            host(body).network_mode = Some("container:nosuch".to_owned());
        })
        .await;
    assert_eq!(
        lab.engine.start(&alone).await.unwrap_err().to_string(),
        "joining network namespace of container: No such container: nosuch"
    );
    let host_net = lab.start("sleep 1000", |body| host(body).network_mode = Some("host".to_owned())).await;
    assert_eq!(netns(&host_net), std::fs::read_link("/proc/self/ns/net").unwrap());
}

/// What one more container costs in memory, beside its own processes.
async fn one_more_container_is_cheap(lab: Lab) {
    /// What the shim itself may need. Not in it: the pages that the dynamic linker relocates at the start, which
    /// depend on the program's size and optimisation (about 1.1 MB of a release build).
    const OWN_MAX_KB: u64 = 512;
    let id = lab.start("sleep 1000", |_| {}).await;
    let shim = eventually(|| lab.shim(&id)).await;
    let maps = std::fs::read_to_string(format!("/proc/{shim}/smaps")).unwrap();
    let (mut own, mut relocated, mut is_relocated) = (0, 0, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match (words.next().unwrap(), words.next()) {
            ("Private_Dirty:", Some(size)) if is_relocated => relocated += size.parse::<u64>().unwrap(),
            ("Private_Dirty:", Some(size)) => own += size.parse::<u64>().unwrap(),
            (range, Some(access)) if range.contains('-') => {
                is_relocated = access == "r--p" && line.contains("/engine-");
            }
            _ => {}
        }
    }
    println!("    shim: {own} kB of its own, {relocated} kB relocated");
    assert!(own < OWN_MAX_KB && relocated > 0, "{own} kB, {relocated} kB");
    let threads = std::fs::read_dir(format!("/proc/{shim}/task")).unwrap().count();
    assert_eq!(threads, 1);
}
