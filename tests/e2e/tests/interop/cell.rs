//! A swarm of which one engine is the manager and one the workers.

use std::time::Duration;

pub(crate) use weft_e2e::services::running;
use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

/// Time for anything to get where it shall be: Docker's own daemon takes seconds for most.
pub(crate) const SOON: Duration = Duration::from_secs(45);

/// Whose daemon a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Weft,
    Docker,
}

/// One field of the matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) manager: Engine,
    pub(crate) worker: Engine,
}

impl Cell {
    /// Whether both sides run the same engine.
    pub(crate) fn is_pure(self) -> bool {
        self.manager == self.worker
    }

    /// A swarm of `h1` as manager and workers `h2` …; labs have the scenario's name.
    pub(crate) fn swarm(self, scenario: &str, hosts: usize) -> Hosts {
        self.swarm_with(scenario, hosts, &[])
    }

    /// The same; Weft's daemons have further arguments.
    pub(crate) fn swarm_with(self, scenario: &str, hosts: usize, weft: &[&str]) -> Hosts {
        let hosts = self.hosts_with(scenario, hosts, weft);
        hosts.swarm();
        hosts
    }

    /// The hosts of a swarm that does not exist yet.
    pub(crate) fn hosts(self, scenario: &str, hosts: usize) -> Hosts {
        self.hosts_with(scenario, hosts, &[])
    }

    fn hosts_with(self, scenario: &str, hosts: usize, weft: &[&str]) -> Hosts {
        let letter = |engine| if engine == Engine::Weft { 'w' } else { 'd' };
        let name = format!("{scenario}{}{}", letter(self.manager), letter(self.worker));
        Hosts::up_with(LabSpec::bridged(&name, hosts), |host| {
            match if host == "h1" { self.manager } else { self.worker } {
                Engine::Weft => weft.iter().fold(DaemonSpec::weft(&weft_exe()), |spec, word| spec.arg(*word)),
                Engine::Docker => DaemonSpec::docker(),
            }
        })
    }
}

/// The tests of a scenario, one a cell, each with an attribute.
macro_rules! cells {
    ($scenario:ident $(, $attribute:meta)?) => {
        mod $scenario {
            use crate::cell::{Cell, Engine::*};

            #[test]
            $(#[$attribute])?
            fn manager_weft_worker_weft() {
                super::$scenario(Cell { manager: Weft, worker: Weft });
            }

            #[test]
            $(#[$attribute])?
            fn manager_weft_worker_docker() {
                super::$scenario(Cell { manager: Weft, worker: Docker });
            }

            #[test]
            $(#[$attribute])?
            fn manager_docker_worker_weft() {
                super::$scenario(Cell { manager: Docker, worker: Weft });
            }

            #[test]
            $(#[$attribute])?
            fn manager_docker_worker_docker() {
                super::$scenario(Cell { manager: Docker, worker: Docker });
            }
        }
    };
}
pub(crate) use cells;

/// Waits until a question to the first host has this answer.
pub(crate) fn answer_is(hosts: &Hosts, question: &[&str], want: &str) {
    eventually(&format!("{} says {want:?}", question.join(" ")), SOON, || {
        let have = hosts.docker("h1", question).map_err(|e| e.to_string())?;
        if have == want { Ok(()) } else { Err(have) }
    });
}

/// A value of a node by a Go template, by the manager's word.
pub(crate) fn node(hosts: &Hosts, host: &str, template: &str) -> String {
    hosts.docker("h1", ["node", "inspect", "--format", template, host]).unwrap()
}

/// Waits until a node has this state and availability in `node ls`.
pub(crate) fn node_is(hosts: &Hosts, host: &str, want: &str) {
    eventually(&format!("{host} is {want}"), SOON, || {
        let have = hosts
            .docker("h1", ["node", "inspect", "--format", "{{.Status.State}} {{.Spec.Availability}}", host])
            .map_err(|e| e.to_string())?;
        if have == want { Ok(()) } else { Err(have) }
    });
}

/// Makes a service of idle busyboxes: its program ends at once when told to.
pub(crate) fn idle(hosts: &Hosts, name: &str, options: &str) {
    let line = format!("service create -d --no-resolve-image --name {name} --stop-grace-period 1s {options}");
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    words.extend(["busybox", "sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"].map(str::to_owned));
    hosts.docker("h1", words).unwrap();
}

/// Waits until a service has so many tasks that run.
pub(crate) fn converged(hosts: &Hosts, service: &str, replicas: &str) {
    eventually(&format!("{service} has {replicas}"), SOON, || {
        let args =
            ["service", "ls", "--format", "{{.Name}} {{.Replicas}}", "--filter", &format!("name={service}")];
        let list = hosts.docker("h1", args).map_err(|e| e.to_string())?;
        if list.lines().any(|line| line == format!("{service} {replicas}")) {
            return Ok(());
        }
        let ps = hosts.docker("h1", format!("service ps --no-trunc {service}")).unwrap_or_default();
        Err(format!("{list}\n{ps}"))
    });
}

/// The container of a service's only task, or of its task on `host`, by the word of the daemon there.
pub(crate) fn container(hosts: &Hosts, host: &str, service: &str) -> String {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    eventually(&format!("container of {service} on {host}"), SOON, || {
        let ids =
            hosts.docker(host, ["ps", "-q", "--no-trunc", "--filter", &filter]).map_err(|e| e.to_string())?;
        match ids.lines().collect::<Vec<_>>()[..] {
            [id] => Ok(id.to_owned()),
            _ => Err(ids),
        }
    })
}
