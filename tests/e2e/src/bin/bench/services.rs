//! How fast services converge, and how fast a dead node's tasks run again.

use std::time::{Duration, Instant};

use weft_e2e::Hosts;
use weft_lab::eventually;

/// For what has to converge.
pub(crate) const CONVERGED: Duration = Duration::from_secs(120);
const SERVICE: &str = "many";

/// Seconds from the request until `replicas` tasks run; the service is gone afterwards.
pub(crate) fn converge(hosts: &Hosts, replicas: usize) -> f64 {
    let start = Instant::now();
    create(hosts, replicas);
    running(hosts, replicas, None);
    let took = start.elapsed().as_secs_f64();
    hosts.docker("h1", ["service", "rm", SERVICE]).unwrap();
    for host in ["h1", "h2", "h3"] {
        let is_task = format!("ps -aq --filter name={SERVICE}");
        eventually("the tasks are gone", CONVERGED, || match hosts.docker(host, &*is_task) {
            Ok(left) if left.trim().is_empty() => Ok(()),
            Ok(left) => Err(left),
            Err(error) => Err(error.to_string()),
        });
    }
    took
}

/// Seconds from the death of every process of `victim` until all tasks run on the other hosts.
pub(crate) fn reschedule(hosts: &Hosts, victim: &str) -> f64 {
    const REPLICAS: usize = 6;
    create(hosts, REPLICAS);
    running(hosts, REPLICAS, None);
    let start = Instant::now();
    hosts.lab().kill(victim).unwrap();
    running(hosts, REPLICAS, Some(victim));
    start.elapsed().as_secs_f64()
}

fn create(hosts: &Hosts, replicas: usize) {
    let line = format!(
        "service create -d -q --replicas {replicas} --no-resolve-image --stop-grace-period 1s --name {SERVICE} \
         busybox sleep 100000"
    );
    hosts.docker("h1", line).unwrap();
}

/// Until so many wanted tasks run elsewhere than on `except`.
fn running(hosts: &Hosts, replicas: usize, except: Option<&str>) {
    let format = "{{.Node}} {{.CurrentState}}";
    let ps = ["service", "ps", "--filter", "desired-state=running", "--format", format, SERVICE];
    eventually("the tasks run", CONVERGED, || {
        let list = hosts.docker("h1", ps).map_err(|error| error.to_string())?;
        let is_up = |line: &&str| {
            line.split_once(' ')
                .is_some_and(|(node, state)| Some(node) != except && state.starts_with("Running"))
        };
        if list.lines().filter(is_up).count() == replicas { Ok(()) } else { Err(list) }
    });
}

/// A task's container.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) pid: String,
    /// On its only network.
    pub(crate) address: String,
}

/// A service's containers on a host, once so many run.
pub(crate) fn tasks(hosts: &Hosts, host: &str, service: &str, replicas: usize) -> Vec<Task> {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    let format = "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    eventually("the tasks run", CONVERGED, || {
        let list =
            hosts.docker(host, ["ps", "-q", "--filter", &filter]).map_err(|error| error.to_string())?;
        let ids: Vec<&str> = list.lines().collect();
        if ids.len() != replicas {
            return Err(format!("{} of {replicas}", ids.len()));
        }
        let words = [&["inspect", "--format", format][..], &ids].concat();
        let list = hosts.docker(host, words.as_slice()).map_err(|error| error.to_string())?;
        let task = |line: &str| {
            let (pid, address) = line.trim().split_once(' ')?;
            Some(Task { pid: pid.to_owned(), address: address.to_owned() })
        };
        list.lines().map(task).collect::<Option<Vec<Task>>>().ok_or(list)
    })
}
