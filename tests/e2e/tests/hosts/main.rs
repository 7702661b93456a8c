//! Two and three hosts, the unmodified `docker` CLI, real packets: a test per feature row and its refusals.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attach;
mod cni;
mod customising;
mod dataplane;
mod docker_plugin;
mod drain;
mod encryption;
mod engines;
mod faults;
mod global_networks;
mod ingress;
mod key_value;
mod names;
mod networks;
mod outlives;
mod quorum;
mod refusals;
mod services;
mod stacks;
mod swarm;
mod vip;

use std::time::Duration;

use weft_e2e::{Hosts, Ping, ping};
use weft_lab::eventually;

/// Time in which what one node learns is known on the others.
const SOON: Duration = Duration::from_secs(10);

/// A swarm of all hosts with an attachable network `web`.
fn swarm_with_network(spec: weft_lab::LabSpec) -> Hosts {
    let hosts = Hosts::up(spec);
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    hosts
}

/// The same with containers `a` on `h1` and `b` on `h2`.
fn swarm_with_pair(spec: weft_lab::LabSpec) -> Hosts {
    let hosts = swarm_with_network(spec);
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    hosts
}

/// Waits until a target answers, then pings it for real.
fn answers(hosts: &Hosts, host: &str, from: &str, target: &str) -> Ping {
    eventually(&format!("{target} answers {from}"), SOON, || {
        let first = ping(hosts, host, from, target, 1).map_err(|e| e.to_string())?;
        if first.is_lossless() { Ok(()) } else { Err(format!("{first:?}")) }
    });
    ping(hosts, host, from, target, 3).unwrap()
}
