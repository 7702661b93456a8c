//! Hosts with control groups of version 1 alone.

use std::path::Path;

use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec};

use super::docker;

/// Where machines with both versions have the second.
const SECOND: &str = "/sys/fs/cgroup/unified";

/// On a machine of version 2 there is nothing to try: tests in the virtual machine are on one, all others of a machine
/// with both are on that.
#[test]
fn version_1_alone_limits_counts_and_pauses() {
    if !Path::new(SECOND).exists() {
        return;
    }
    let weft = |_: &str| DaemonSpec::weft(&weft_exe());
    let hosts = Hosts::up_prepared(LabSpec::bridged("first", 1), weft, |host| {
        host.sh(&format!("umount {SECOND}")).unwrap();
    });
    let info = docker(&hosts, ["info", "--format", "{{.CgroupVersion}} {{.Labels}}"]);
    assert!(info.starts_with("1 ") && info.contains("weft.service-balancer=nftables"), "{info}");

    let flags = "-m 64m --cpus 0.5 --pids-limit 50 --cpuset-cpus 0";
    let id = hosts.run_idle("h1", "c1", flags).unwrap();
    let files = "cd /sys/fs/cgroup && cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max cpuset/cpuset.cpus";
    assert_eq!(hosts.exec("h1", "c1", files).unwrap(), "67108864\n50000\n50\n0");
    let stats = docker(&hosts, ["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "c1"]);
    assert!(stats.ends_with("/ 64MiB 1"), "{stats}");
    docker(&hosts, ["pause", "c1"]);
    assert_eq!(hosts.inspect("h1", "c1", "{{.State.Status}}").unwrap(), "paused");
    docker(&hosts, ["unpause", "c1"]);
    docker(&hosts, ["update", "-m", "32m", "--memory-swap", "32m", "c1"]);
    assert_eq!(
        hosts.exec("h1", "c1", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes").unwrap(),
        "33554432"
    );

    let flood = "head -c 64m /dev/zero | tail -c 64m > /dev/null; exit $?";
    let run = ["run", "--name", "flood", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", flood];
    assert!(hosts.docker("h1", run).is_err());
    assert_eq!(hosts.inspect("h1", "flood", "{{.State.OOMKilled}}").unwrap(), "true");

    docker(&hosts, ["rm", "-f", "c1", "flood"]);
    let left = hosts.host("h1").sh(&format!("find /sys/fs/cgroup -name '{}*'", id.trim())).unwrap();
    assert_eq!(left.trim(), "");
}
