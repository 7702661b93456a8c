//! What managers cost, and how fast they elect another leader.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use weft_e2e::Hosts;
use weft_lab::{DaemonSpec, eventually};

use crate::{labs, memory};

const SERVICES: usize = 1000;
/// For a leader to be found.
const DEADLINE: Duration = Duration::from_secs(60);

/// Memory of a manager's host with a thousand services that have no tasks, in MiB.
pub(crate) fn with_services(engine: &str, spec: &DaemonSpec) -> f64 {
    let hosts = Hosts::up_with(labs::bridged(&format!("bm{engine}"), 1), |_| spec.clone());
    hosts.swarm();
    let stack = std::env::temp_dir().join(format!("weft-bench-{}-{engine}.yml", std::process::id()));
    std::fs::write(&stack, thousand()).unwrap();
    let deploy = format!("stack deploy --detach --resolve-image never -c {} many", stack.display());
    hosts.docker("h1", deploy).unwrap();
    std::fs::remove_file(&stack).unwrap();
    let list = hosts.docker("h1", "service ls -q").unwrap();
    assert_eq!(list.lines().count(), SERVICES);
    memory::of_host(&hosts, "h1", engine)
}

fn thousand() -> String {
    let mut stack = "version: '3.8'\nservices:\n".to_owned();
    for number in 0..SERVICES {
        let deploy = "{replicas: 0, endpoint_mode: dnsrr}";
        writeln!(stack, "  s{number}: {{image: busybox, command: sleep 1000, deploy: {deploy}}}").unwrap();
    }
    stack
}

/// Seconds from the death of every process of the leader among three until another one answers for the swarm.
pub(crate) fn election(engine: &str, spec: &DaemonSpec) -> f64 {
    let hosts = Hosts::up_with(labs::bridged(&format!("be{engine}"), 3), |_| spec.clone());
    let address = hosts.host("h1").ipv4;
    hosts.docker("h1", format!("swarm init --advertise-addr {address}")).unwrap();
    for host in ["h2", "h3"] {
        hosts.join_manager(host, "h1").unwrap();
    }
    hosts.wait_ready(3);
    eventually("all are reachable", DEADLINE, || {
        let list = hosts.docker("h2", ["node", "ls", "--format", "{{.ManagerStatus}}"]);
        let list = list.map_err(|error| error.to_string())?;
        let reachable = list.lines().filter(|line| matches!(*line, "Leader" | "Reachable")).count();
        if reachable == 3 { Ok(()) } else { Err(list) }
    });
    let start = Instant::now();
    hosts.lab().kill("h1").unwrap();
    eventually("another one leads", DEADLINE, || {
        let list = hosts.docker("h2", ["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"]);
        let list = list.map_err(|error| error.to_string())?;
        let leads = |line: &str| line.ends_with(" Leader") && !line.starts_with("h1 ");
        if list.lines().any(leads) { Ok(()) } else { Err(list) }
    });
    start.elapsed().as_secs_f64()
}
