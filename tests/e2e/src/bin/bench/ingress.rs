//! Published ports of the routing mesh beside the same task's port of its own node (`mode=host`), from a host outside.

use weft_e2e::Hosts;
use weft_lab::eventually;

use crate::burst::{Kind, Sample};
use crate::path::{Path, Place};
use crate::race::race;
use crate::{DEADLINE, labs, report};

/// Where the task listens, and its port on every node and on its own.
const TARGET: u16 = 80;
const PUBLISHED: u16 = 8080;
const DIRECT: u16 = 9090;
/// Rounds of short bursts.
const BURSTS: usize = 24;

/// Two nodes, one of them with the task, and a client that is no node.
pub(crate) fn measure() {
    let hosts = Hosts::up(labs::bridged("bingress", 3));
    let address = |host: &str| hosts.host(host).ipv4.to_string();
    hosts.docker("h1", format!("swarm init --advertise-addr {}", address("h1"))).unwrap();
    hosts.join("h2", "h1").unwrap();
    hosts.wait_ready(2);
    let create = format!(
        "service create -d -q --name web --constraint node.hostname==h1 --no-resolve-image \
         -p published={PUBLISHED},target={TARGET} -p mode=host,published={DIRECT},target={TARGET} \
         busybox sleep 100000"
    );
    hosts.docker("h1", create).unwrap();
    let (client, task) = (hosts.host("h3").keeper.to_string(), task(&hosts));
    let way = |host: &str, port| {
        Path::published(Place::of(&client), Place::of(&task), TARGET, (&address(host), port))
    };
    let direct = way("h1", DIRECT);
    for (name, path) in [("task's node", way("h1", PUBLISHED)), ("other node", way("h2", PUBLISHED))] {
        eventually("the port answers", DEADLINE, || match path.spread(1) {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        compare(name, &direct, &path);
    }
}

/// Process of the task's container.
fn task(hosts: &Hosts) -> String {
    let mut pid = String::new();
    eventually("the task runs", DEADLINE, || {
        let id = hosts.docker("h1", "ps -q --filter label=com.docker.swarm.service.name=web");
        let id = id.map_err(|error| error.to_string())?;
        pid = hosts.inspect("h1", id.trim(), "{{.State.Pid}}").map_err(|error| error.to_string())?;
        Ok::<(), String>(())
    });
    pid
}

/// Bursts both ways in turn.
fn compare(by: &str, direct: &Path, mesh: &Path) {
    let raced = race(&[direct, mesh], &[Kind::Echo, Kind::Connect], BURSTS);
    for (what, kind) in
        [("request on a connection", Kind::Echo), ("connection with a request", Kind::Connect)]
    {
        let both = |part: fn(&Sample) -> f64| [raced.of(kind, 0, part), raced.of(kind, 1, part)];
        report(&format!("ingress, {by}, {what}: p50, us (goal <= 1.25)"), both(|sample| sample.p50));
        report("  p99, us", both(|sample| sample.p99));
    }
}
