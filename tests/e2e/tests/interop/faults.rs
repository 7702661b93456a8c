//! Deaths and cuts, of either kind of node.

use std::time::Duration;

use weft_e2e::{Hosts, ping};
use weft_lab::eventually;

use crate::cell::{Cell, SOON, cells, container, converged, idle, node_is, running};

/// Docker's daemons look for lost members of their gossip only once a minute.
const LATE: Duration = Duration::from_secs(150);

/// Pings until an answer comes.
fn reaches(hosts: &Hosts, host: &str, from: &str, target: &str) {
    eventually(&format!("{target} answers {host}"), SOON, || {
        let first = ping(hosts, host, from, target, 1).map_err(|e| e.to_string())?;
        if first.is_lossless() { Ok(()) } else { Err(format!("{first:?}")) }
    });
}

/// A worker whose daemon is killed, and a manager that starts anew: containers find each other again.
fn daemons_die(cell: Cell) {
    let mut hosts = cell.swarm("di", 3);
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    idle(&hosts, "rr", "--mode global --endpoint-mode dnsrr --network web --restart-delay 0s");
    converged(&hosts, "rr", "3/3");

    hosts.daemon("h2").kill().unwrap();
    // Docker's containerd died with it, and nobody reaps it here: its next start would take it for alive.
    hosts.host("h2").sh("rm -f /run/docker/containerd/containerd.pid").unwrap();
    hosts.start("h2");
    node_is(&hosts, "h2", "ready active");
    converged(&hosts, "rr", "3/3");
    all_meet(&hosts);

    hosts.daemon("h1").stop().unwrap();
    hosts.start("h1");
    hosts.wait_ready(3);
    converged(&hosts, "rr", "3/3");
    all_meet(&hosts);
}
cells!(daemons_die);

/// Each task reaches each other by the addresses that the service's name gives, and by no other.
fn all_meet(hosts: &Hosts) {
    eventually("every node knows three addresses", LATE, || {
        assert_eq!(running(hosts, "rr", "{{.Node}}").len(), 3);
        for host in ["h1", "h2", "h3"] {
            let id = container(hosts, host, "rr");
            let answer =
                hosts.exec(host, &id, "nslookup -type=a tasks.rr 127.0.0.11").map_err(|e| e.to_string())?;
            let have: std::collections::BTreeSet<&str> = answer
                .lines()
                .skip(2)
                .filter(|line| line.starts_with("Address"))
                .filter_map(|l| l.rsplit(' ').next())
                .collect();
            let want: Vec<String> = ["h1", "h2", "h3"]
                .iter()
                .map(|host| hosts.address(host, &container(hosts, host, "rr"), "web").unwrap())
                .collect();
            if have != want.iter().map(String::as_str).collect() {
                return Err(format!("{host}: want {want:?}, have {have:?}"));
            }
        }
        Ok(())
    });
    for from in ["h1", "h2", "h3"] {
        for to in ["h1", "h2", "h3"] {
            let address = hosts.address(to, &container(hosts, to, "rr"), "web").unwrap();
            reaches(hosts, from, &container(hosts, from, "rr"), &address);
        }
    }
}

/// A worker that is cut off and comes back: its tasks run once, and all see the same.
fn cuts_heal(cell: Cell) {
    let hosts = cell.swarm("cu", 3);
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    idle(&hosts, "rr", "--mode global --endpoint-mode dnsrr --network web --restart-delay 0s");
    converged(&hosts, "rr", "3/3");
    all_meet(&hosts);
    hosts.lab().cut("h3", "h1").unwrap();
    hosts.lab().cut("h3", "h2").unwrap();
    node_is(&hosts, "h3", "down active");
    hosts.lab().heal().unwrap();
    node_is(&hosts, "h3", "ready active");
    converged(&hosts, "rr", "3/3");
    all_meet(&hosts);
}
cells!(cuts_heal);
