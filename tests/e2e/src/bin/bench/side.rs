//! Two hosts of one engine with a container each on an overlay, and one more host.

use std::time::Instant;

use weft_e2e::{Hosts, ping};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::DEADLINE;
use crate::traffic::Path;

/// One engine under measurement.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) hosts: Hosts,
    /// Between containers on two hosts.
    pub(crate) overlay: Path,
    /// Between the two hosts themselves.
    pub(crate) underlay: Path,
}

impl Side {
    /// Builds it.
    pub(crate) fn up(name: &'static str, spec: DaemonSpec) -> Self {
        let hosts = Hosts::up_with(LabSpec::bridged(&format!("b{name}"), 3), |_| spec.clone());
        hosts.swarm();
        hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
        let mut pids = Vec::new();
        for (host, container) in [("h1", "ann"), ("h2", "bob")] {
            hosts.run_idle(host, container, "--network web").unwrap();
            let pid = hosts.inspect(host, container, "{{.State.Pid}}").unwrap();
            pids.push(pid);
        }
        let address = hosts.address("h2", "bob", "web").unwrap();
        eventually("the overlay works", DEADLINE, || {
            let pinged = ping(&hosts, "h1", "ann", &address, 1).map_err(|e| e.to_string())?;
            if pinged.is_lossless() { Ok(()) } else { Err("no answer".to_owned()) }
        });
        let overlay = Path::between(&pids[0], &pids[1], &address);
        let keeper = |host: &str| hosts.host(host).keeper.to_string();
        let underlay = Path::between(&keeper("h1"), &keeper("h2"), &hosts.host("h2").ipv4.to_string());
        Self { name, hosts, overlay, underlay }
    }

    /// From `docker run` on one host until the name answers a ping from the other.
    pub(crate) fn first_ping(&self, round: usize) -> f64 {
        let name = format!("first{round}");
        let start = Instant::now();
        self.hosts.run_idle("h2", &name, "--network web").unwrap();
        eventually("the first ping", DEADLINE, || {
            self.hosts.exec("h1", "ann", &format!("ping -c 1 -W 1 {name}")).map_err(|e| e.to_string())
        });
        let took = start.elapsed().as_secs_f64();
        self.hosts.docker("h2", format!("rm -f {name}")).unwrap();
        took
    }

    /// From the end of `docker start` until the name is known elsewhere.
    pub(crate) fn new_name(&self, round: usize) -> f64 {
        let name = format!("name{round}");
        self.hosts.docker("h2", format!("create --name {name} --network web busybox sleep 1000")).unwrap();
        let lookup = format!("until nslookup {name} >/dev/null 2>&1; do :; done");
        self.hosts.docker("h2", format!("start {name}")).unwrap();
        let start = Instant::now();
        self.hosts.exec("h1", "ann", &lookup).unwrap();
        let took = start.elapsed().as_secs_f64();
        self.hosts.docker("h2", format!("rm -f {name}")).unwrap();
        took
    }
}
