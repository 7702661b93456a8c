//! How fast a change is programmed on every node: a new service, until the resolver of a container on each of five nodes
//! knows it. Names follow the kernel, so that the virtual IP is there by then, too.

use std::sync::Barrier;
use std::time::Instant;

use weft_e2e::Hosts;
use weft_e2e::dns::{Inside, query};

use crate::{alone, labs, names, requests};

const NODES: usize = 5;
const ROUNDS: usize = 100;
/// Services beside the new ones in the second half.
const OTHERS: usize = 1000;
/// With a sign that no name of the Internet ends with: unknown names below it are not asked for elsewhere.
const NETWORK: &str = "web_1";

pub(crate) fn measure() {
    let hosts = Hosts::up(labs::bridged("bchange", NODES));
    hosts.swarm();
    let network = format!("network create -d overlay --attachable --subnet 10.81.0.0/16 {NETWORK}");
    hosts.docker("h1", network).unwrap();
    let names: Vec<String> = hosts.lab().hosts().iter().map(|host| host.name.clone()).collect();
    let inside = |host: &String| {
        hosts.run_idle(host, "asker", &format!("--network {NETWORK}")).unwrap();
        Inside::of(&hosts, host, "asker").unwrap()
    };
    let askers: Vec<Inside> = names.iter().map(inside).collect();
    report(&hosts, &askers, "few");
    (0..OTHERS).for_each(|number| requests::create_service(&hosts, &format!("other{number}"), NETWORK));
    visible(&hosts, &askers, "last");
    report(&hosts, &askers, "1,000");
}

fn report(hosts: &Hosts, askers: &[Inside], among: &str) {
    let new = |round: usize| visible(hosts, askers, &format!("new{round}-{}", among.len()));
    let mut took: Vec<f64> = (0..ROUNDS).map(new).collect();
    took.sort_by(f64::total_cmp);
    alone(&format!("a new service among {among} on {NODES} nodes: median, ms"), took[ROUNDS / 2]);
    alone("  99th percentile, ms (goal <= 100)", took[ROUNDS * 99 / 100 - 1]);
}

/// Milliseconds from the request for a new service until all nodes know it.
fn visible(hosts: &Hosts, askers: &[Inside], name: &str) -> f64 {
    let ready = Barrier::new(askers.len() + 1);
    let question = query(1, &format!("{name}.{NETWORK}"));
    std::thread::scope(|scope| {
        let wait = |asker: &Inside| {
            asker.ask(|socket| {
                ready.wait();
                names::await_answer(socket, &question)
            })
        };
        let waiting: Vec<_> = askers.iter().map(|asker| scope.spawn(move || wait(asker))).collect();
        ready.wait();
        let begin = Instant::now();
        requests::create_service(hosts, name, NETWORK);
        let seen = waiting.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
        seen.duration_since(begin).as_secs_f64() * 1000.0
    })
}
