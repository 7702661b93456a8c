//! One host's engine: how fast containers come and go, and what many of them cost.

use std::time::Instant;

use serde_json::json;
use weft_e2e::{Hosts, api, weft_exe};
use weft_lab::DaemonSpec;

use crate::{labs, memory, report};

/// Rounds of what one container takes.
const ROUNDS: usize = 20;
/// Containers of which none does anything.
const MANY: usize = 500;
const MS: f64 = 1e3;

/// Prints all of it.
pub(crate) fn measure() {
    let up = |name: &str, spec: DaemonSpec| {
        Hosts::up_with(labs::bridged(&format!("bx{name}"), 1), |_| spec.clone().arg("--live-restore"))
    };
    let mut sides = [up("docker", DaemonSpec::docker()), up("weft", DaemonSpec::weft(&weft_exe()))];
    in_turn("run --rm of the command line client, ms (goal <= 0.5)", &sides, run);
    in_turn("create, start and delete, ms (goal <= 60 ms)", &sides, |hosts, _| come_and_go(hosts, "default"));
    in_turn("the same without a network, ms", &sides, |hosts, _| come_and_go(hosts, "none"));
    in_turn("start and stop of a container that is there, ms", &sides, start_and_stop);
    let empty = sides.each_ref().map(memory);
    report("engine without containers, PSS of all its processes, MiB", empty.map(|mib| vec![mib]));
    let took = sides.each_ref().map(start_many);
    report(
        &format!("{MANY} containers started, one after the other, per second"),
        took.map(|value| vec![value]),
    );
    in_turn(&format!("list of {MANY} containers, ms (goal <= 20 ms)"), &sides, list);
    in_turn("the same by the command line client, ms", &sides, list_by_client);
    let full = sides.each_ref().map(memory);
    let each = [0, 1].map(|n| vec![(full[n] - empty[n]) / MANY as f64]);
    report("an idle container's share of the engine, PSS, MiB", each);
    let took = sides.each_mut().map(start_again);
    report(&format!("daemon ready beside {MANY} running containers, s"), took.map(|value| vec![value]));
}

/// Rounds alternate between the engines.
fn in_turn(what: &str, sides: &[Hosts; 2], measure: impl Fn(&Hosts, usize) -> f64) {
    let mut values = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (hosts, values) in sides.iter().zip(&mut values) {
            values.push(measure(hosts, round));
        }
    }
    report(what, values);
}

fn run(hosts: &Hosts, _round: usize) -> f64 {
    timed(|| hosts.docker("h1", "run --rm busybox true").unwrap())
}

fn come_and_go(hosts: &Hosts, network: &str) -> f64 {
    timed(|| {
        let id = create(hosts, network);
        order(hosts, &format!("POST /containers/{id}/start"));
        order(hosts, &format!("DELETE /containers/{id}?force=1"));
    })
}

/// Its process ignores no signal, so that stopping it takes no grace.
fn start_and_stop(hosts: &Hosts, round: usize) -> f64 {
    if round == 0 {
        hosts.docker("h1", "create --init --name again busybox sleep 100000").unwrap();
    }
    timed(|| {
        order(hosts, "POST /containers/again/start");
        order(hosts, "POST /containers/again/stop");
    })
}

/// How many a second.
fn start_many(hosts: &Hosts) -> f64 {
    let took = timed(|| {
        for _ in 0..MANY {
            let id = create(hosts, "default");
            order(hosts, &format!("POST /containers/{id}/start"));
        }
    });
    MANY as f64 * MS / took
}

fn list(hosts: &Hosts, _round: usize) -> f64 {
    timed(|| {
        let list = api::get(hosts, "h1", "/containers/json").unwrap();
        assert_eq!(list.as_array().unwrap().len(), MANY);
    })
}

fn list_by_client(hosts: &Hosts, _round: usize) -> f64 {
    timed(|| assert_eq!(hosts.docker("h1", "ps -q").unwrap().lines().count(), MANY))
}

fn memory(hosts: &Hosts) -> f64 {
    memory::of_host(hosts, "h1", hosts.lab().name())
}

/// Seconds from the start of a daemon until it lists what ran on without it.
fn start_again(hosts: &mut Hosts) -> f64 {
    hosts.daemon("h1").stop().unwrap();
    let start = Instant::now();
    hosts.start("h1");
    let running = api::get(hosts, "h1", "/containers/json").unwrap();
    assert_eq!(running.as_array().unwrap().len(), MANY);
    start.elapsed().as_secs_f64()
}

fn create(hosts: &Hosts, network: &str) -> String {
    let wish = json!({
        "Image": "busybox",
        "Cmd": ["sleep", "100000"],
        "HostConfig": {"NetworkMode": network},
    });
    let made = api::post(hosts, "h1", "/containers/create", &wish).unwrap();
    made["Id"].as_str().unwrap().to_owned()
}

fn order(hosts: &Hosts, what: &str) {
    api::order(hosts, "h1", what).unwrap();
}

/// Milliseconds.
fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * MS
}
