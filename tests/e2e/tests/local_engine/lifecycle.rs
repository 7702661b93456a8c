//! The life of a container, its health, and what the daemon's end means for it.

use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::{SOON, docker, exit_code, up, wait_for_log};

#[test]
fn a_container_lives_its_life() {
    let hosts = up("life");
    let state = |name: &str| hosts.inspect("h1", name, "{{.State.Status}} {{.State.ExitCode}}").unwrap();
    docker(
        &hosts,
        [
            "create",
            "--name",
            "c1",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 9' TERM; echo ready; while true; do usleep 10000; done",
        ],
    );
    assert_eq!(state("c1"), "created 0");
    docker(&hosts, ["start", "c1"]);
    wait_for_log(&hosts, "ready");
    assert_eq!(state("c1"), "running 0");
    docker(&hosts, ["pause", "c1"]);
    assert_eq!(state("c1"), "paused 0");
    docker(&hosts, ["unpause", "c1"]);
    docker(&hosts, ["rename", "c1", "d1"]);
    docker(&hosts, ["stop", "d1"]);
    assert_eq!(state("d1"), "exited 9");
    docker(&hosts, ["restart", "d1"]);
    docker(&hosts, ["kill", "d1"]);
    assert_eq!(docker(&hosts, ["wait", "d1"]), "137");
    assert_eq!(docker(&hosts, ["ps", "-q"]), "");
    assert_eq!(docker(&hosts, ["ps", "-a", "--filter", "status=exited", "--format", "{{.Names}}"]), "d1");
    assert_eq!(docker(&hosts, ["ps", "-a", "--filter", "name=x", "-q"]), "");
    docker(&hosts, ["rm", "d1"]);
    assert_eq!(docker(&hosts, ["ps", "-aq"]), "");
    // What ends by itself with --rm leaves nothing, and says how it ended.
    assert_eq!(exit_code(hosts.docker("h1", "run --rm --name gone busybox false")), Some(1));
    assert_eq!(docker(&hosts, ["ps", "-aq"]), "");
    docker(&hosts, ["create", "busybox", "true"]);
    let pruned = docker(&hosts, ["container", "prune", "-f"]);
    assert!(pruned.contains("Deleted Containers:"), "{pruned}");
}

#[test]
fn health_is_probed_and_shown() {
    let hosts = up("health");
    docker(
        &hosts,
        [
            "run",
            "-d",
            "--name",
            "c1",
            "--health-cmd",
            "test -e /tmp/well",
            "--health-interval",
            "100ms",
            "--health-retries",
            "2",
            "busybox",
            "sleep",
            "1000",
        ],
    );
    let becomes = |wanted: &str| {
        eventually(wanted, SOON, || match hosts.docker("h1", ["ps", "--format", "{{.Status}}"]) {
            Ok(status) if status.ends_with(wanted) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    becomes("(unhealthy)");
    hosts.exec("h1", "c1", "touch /tmp/well").unwrap();
    becomes("(healthy)");
    assert_eq!(docker(&hosts, ["inspect", "--format", "{{.State.Health.Status}}", "c1"]), "healthy");
    docker(&hosts, ["rm", "-f", "c1"]);
}

#[test]
fn with_live_restore_containers_survive_stop_and_crash() {
    let mut hosts = Hosts::up_with(LabSpec::bridged("restore", 1), |_| {
        DaemonSpec::weft(&weft_exe()).arg("--live-restore")
    });
    docker(&hosts, ["network", "create", "n"]);
    hosts.run_idle("h1", "c1", "--network n").unwrap();
    let pid = hosts.inspect("h1", "c1", "{{.State.Pid}}").unwrap();
    let address = hosts.address("h1", "c1", "n").unwrap();
    for crash in [false, true] {
        let daemon = hosts.daemon("h1").clone();
        if crash {
            daemon.kill().unwrap()
        } else {
            daemon.stop().unwrap()
        }
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "crash {crash}: the container ended");
        hosts.start("h1");
        assert_eq!(
            hosts.inspect("h1", "c1", "{{.State.Status}} {{.State.Pid}}").unwrap(),
            format!("running {pid}")
        );
        assert_eq!(hosts.address("h1", "c1", "n").unwrap(), address);
        assert_eq!(hosts.exec("h1", "c1", "echo alive").unwrap(), "alive");
    }
    docker(&hosts, ["rm", "-f", "c1"]);
}

#[test]
fn without_live_restore_a_stop_ends_containers() {
    let mut hosts = up("ends");
    let line = "trap 'echo bye; exit 0' TERM; echo ready; while true; do usleep 10000; done";
    docker(&hosts, ["run", "-d", "--name", "c1", "busybox", "sh", "-c", line]);
    wait_for_log(&hosts, "ready");
    hosts.daemon("h1").clone().stop().unwrap();
    hosts.start("h1");
    assert_eq!(hosts.inspect("h1", "c1", "{{.State.Status}} {{.State.ExitCode}}").unwrap(), "exited 0");
    assert_eq!(docker(&hosts, ["logs", "c1"]), "ready\nbye");
}

#[test]
fn a_daemon_hears_signals_that_its_starter_blocked() {
    // A thread of its own: signals are blocked by threads, and what these start inherits it.
    let starter = std::thread::spawn(|| {
        nix::sys::signal::SigSet::all().thread_block().unwrap();
        let hosts = up("sigmask");
        hosts.daemon("h1").stop().unwrap();
    });
    starter.join().unwrap();
}
