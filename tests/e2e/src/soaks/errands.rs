//! Containers of every kind that come and go: short ones, ones with ports, volumes and health checks, ones that fail.

use crate::{Failed, Hosts};

/// What `prepare` makes and no errand removes.
const NETWORKS: [&str; 2] = ["near", "far"];
/// Kinds of errands.
pub(super) const KINDS: u64 = 10;

/// Makes what errands use.
pub(super) fn prepare(hosts: &Hosts, host: &str) {
    for network in NETWORKS {
        hosts.docker(host, ["network", "create", network]).expect("a network");
    }
}

/// Runs one; its containers are named after `name`, in the cgroup `parent`. An error where none belongs is the daemon's
/// end or a container's.
pub(super) fn run(hosts: &Hosts, host: &str, parent: &str, name: &str, kind: u64) -> Result<(), Failed> {
    let docker = |line: &str| hosts.docker(host, line).map(drop);
    let of = format!("--name {name} --cgroup-parent {parent}");
    match kind % KINDS {
        0 => docker(&format!("run --rm {of} busybox true")),
        1 => {
            docker(&format!("run -d {of} busybox sleep 1000"))?;
            docker(&format!("rm -f {name}"))
        }
        2 => {
            docker(&format!("run -d --init {of} --network near -p 80 -p 81/udp busybox sleep 1000"))?;
            docker(&format!("exec {name} true"))?;
            docker(&format!("stop {name}"))?;
            docker(&format!("start {name}"))?;
            docker(&format!("rm -f -v {name}"))
        }
        3 => {
            docker(&format!("create {of} --network near -v /data busybox true"))?;
            docker(&format!("rm -v {name}"))
        }
        4 => docker(&format!("run --rm {of} -v /data --tmpfs /scratch --shm-size 1m busybox touch /data/a")),
        5 => {
            let health =
                "--health-cmd true --health-interval 10ms --log-opt max-size=1k --log-opt max-file=2";
            let line = format!("run -d {of} {health} busybox sh -c");
            let words = line.split(' ').chain(["yes | head -n 5000; exec sleep 1000"]).map(str::to_owned);
            hosts.docker(host, words.collect::<Vec<_>>())?;
            docker(&format!("kill {name}"))?;
            docker(&format!("rm {name}"))
        }
        6 => {
            let refused = hosts.docker(host, format!("run {of} --network near busybox no-such-program"));
            docker(&format!("rm {name}"))?;
            match refused {
                Err(failed) if failed.stderr.contains("no-such-program") => Ok(()),
                Err(failed) => Err(failed),
                Ok(stdout) => panic!("there is no such program: {stdout}"),
            }
        }
        7 => {
            docker(&format!("run -d {of} --restart always busybox false"))?;
            docker(&format!("rm -f {name}"))
        }
        8 => {
            docker(&format!("run -d --memory 32m --pids-limit 20 {of} busybox sleep 1000"))?;
            docker(&format!("pause {name}"))?;
            docker(&format!("unpause {name}"))?;
            docker(&format!("rm -f {name}"))
        }
        _ => {
            docker(&format!("run -d {of} --network near --network-alias both busybox sleep 1000"))?;
            docker(&format!("network connect far {name}"))?;
            docker(&format!("network disconnect near {name}"))?;
            docker(&format!("cp {name}:/etc/passwd -"))?;
            docker(&format!("rm -f {name}"))
        }
    }
}

/// Removes what errands that were broken off have left, as a user would.
pub(super) fn clear(hosts: &Hosts, host: &str) -> Result<(), Failed> {
    let left = hosts.docker(host, "ps -aq")?;
    if !left.is_empty() {
        let words = ["rm", "-f", "-v"].into_iter().chain(left.lines()).map(str::to_owned).collect::<Vec<_>>();
        hosts.docker(host, words)?;
    }
    hosts.docker(host, "volume prune -af").map(drop)
}
