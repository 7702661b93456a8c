//! Memory of a host's engine.

use weft_e2e::Hosts;

/// Proportional set size of all processes on a host that belong to the engine, in MiB: what they share is counted once.
pub(crate) fn of_host(hosts: &Hosts, host: &str, engine: &str) -> f64 {
    sum(hosts, host, engine, "Pss:")
}

/// The same as resident sets: what they share is counted for each.
pub(crate) fn resident(hosts: &Hosts, host: &str, engine: &str) -> f64 {
    sum(hosts, host, engine, "Rss:")
}

fn sum(hosts: &Hosts, host: &str, engine: &str, field: &str) -> f64 {
    let home = mount_namespace(&hosts.host(host).keeper.to_string());
    let keeper = hosts.host(host).keeper.to_string();
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
    let own = pids.filter(|pid| *pid != keeper && home.is_some() && mount_namespace(pid) == home);
    let kib: u64 = own.filter_map(|pid| kib(&pid, field)).sum();
    assert!(kib > 0, "no process of {engine} on {host}");
    kib as f64 / 1024.0
}

fn mount_namespace(pid: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

fn kib(pid: &str, field: &str) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    rollup.lines().find_map(|l| l.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}
