//! How fast the cluster follows what is asked of it, and what that costs in memory.

use std::sync::Barrier;
use std::time::Instant;

use weft_e2e::api;
use weft_e2e::dns::{Inside, query};
use weft_lab::eventually;

use super::{Arena, Effort};
use crate::row::Bound::{AtLeast, AtMost};
use crate::row::{Entry, Goal, Row};
use crate::side::{NETWORK, Side};
use crate::stats::Better::{self, Higher, Lower};
use crate::{DEADLINE, memory, names, services};

/// A host on which nothing runs; it is killed in the end.
const IDLE: &str = "h3";
/// Names on the network whose resolver is asked.
const NAMES: usize = 3;

type Measurement = (&'static str, &'static str, Better, Option<Goal>);

pub(crate) fn measure(arena: &Arena, effort: Effort) -> Vec<Row> {
    let slow = effort.slow_rounds;
    let (memory, shared) = (memory_of(memory::resident), memory_of(memory::of_host));
    let mut rows = vec![
        row(arena, 1, MEMORY, |side, _| memory(side)),
        row(arena, 1, SHARED_MEMORY, |side, _| shared(side)),
        row(arena, slow, FIRST_PING, first_ping),
    ];
    rows.extend(new_names(arena, slow));
    rows.push(queries(arena, slow));
    rows.push(row(arena, slow, TEN, |side, _| services::converge(&side.hosts, 10)));
    if effort.thorough {
        rows.push(row(arena, 1, HUNDRED, |side, _| services::converge(&side.hosts, 100)));
    }
    rows.push(row(arena, 1, KILLED, |side, _| services::reschedule(&side.hosts, IDLE)));
    rows
}

const MEMORY: Measurement =
    ("idle worker: RSS of all its processes", "MiB", Lower, Some(Goal::beside_docker(AtMost(0.35))));
const SHARED_MEMORY: Measurement = ("idle worker: PSS of all its processes", "MiB", Lower, None);
const FIRST_PING: Measurement =
    ("run until first ping by name from another node", "s", Lower, Some(Goal::beside_docker(AtMost(0.5))));
const NEW_NAME: Measurement =
    ("start of a container until its name is known elsewhere", "s", Lower, Some(Goal::alone(AtMost(0.1))));
const ANSWERED: Measurement = ("start of a container until it is answered", "s", Lower, None);
const QUERIES: Measurement =
    ("resolver, 50 queries outstanding", "1/s", Higher, Some(Goal::beside_docker(AtLeast(2.0))));
const TEN: Measurement =
    ("service of 10 replicas running", "s", Lower, Some(Goal::beside_docker(AtMost(0.5))));
const HUNDRED: Measurement = ("service of 100 replicas running", "s", Lower, None);
const KILLED: Measurement =
    ("node killed until its tasks run elsewhere", "s", Lower, Some(Goal::alone(AtMost(8.0))));

/// So many rounds, in each of which every side has its turn.
fn row(arena: &Arena, rounds: usize, what: Measurement, measure: impl Fn(&Side, usize) -> f64) -> Row {
    let mut values = vec![Vec::new(); arena.sides().count()];
    for round in 0..rounds {
        for (side, values) in arena.sides().zip(&mut values) {
            values.push(measure(side, round));
        }
    }
    table(arena, what, values)
}

fn table(arena: &Arena, (title, unit, better, goal): Measurement, values: Vec<Vec<f64>>) -> Row {
    let entry = |(number, (side, values)): (usize, (&Side, Vec<f64>))| Entry {
        name: side.name.to_owned(),
        values,
        judged: number > 0,
        limit: None,
    };
    Row {
        title: title.to_owned(),
        unit,
        better,
        goals: goal.into_iter().collect(),
        entries: arena.sides().zip(values).enumerate().map(entry).collect(),
        beside_docker: true,
    }
}

fn memory_of(how: fn(&weft_e2e::Hosts, &str, &str) -> f64) -> impl Fn(&Side) -> f64 {
    move |side| how(&side.hosts, IDLE, side.name)
}

/// From `docker run` on one host until the name answers a ping from the other.
fn first_ping(side: &Side, round: usize) -> f64 {
    let name = format!("first{round}");
    let start = Instant::now();
    side.hosts.run_idle("h2", &name, &format!("--network {NETWORK}")).unwrap();
    eventually("the first ping", DEADLINE, || {
        side.hosts.exec("h1", "ann", &format!("ping -c 1 -W 1 {name}"))
    });
    let took = start.elapsed().as_secs_f64();
    side.hosts.docker("h2", format!("rm -f {name}")).unwrap();
    took
}

/// From the request that starts a container on one host until a thread in a container of the other, which asks all the
/// time, is told its address; and until the request is answered.
fn new_names(arena: &Arena, rounds: usize) -> [Row; 2] {
    let mut known = vec![Vec::new(); arena.sides().count()];
    let mut answered = known.clone();
    for round in 0..rounds {
        for (number, side) in arena.sides().enumerate() {
            let took = new_name(side, round);
            known[number].push(took.0);
            answered[number].push(took.1);
        }
    }
    [table(arena, NEW_NAME, known), table(arena, ANSWERED, answered)]
}

fn new_name(side: &Side, round: usize) -> (f64, f64) {
    let name = format!("name{round}");
    let create = format!("create --name {name} --network {NETWORK} busybox sleep 100000");
    side.hosts.docker("h2", create).unwrap();
    let asker = Inside::of(&side.hosts, "h1", "ann").unwrap();
    let (ready, question) = (Barrier::new(2), query(1, &name));
    let took = std::thread::scope(|scope| {
        let known = scope.spawn(|| {
            asker.ask(|socket| {
                ready.wait();
                names::await_answer(socket, &question)
            })
        });
        ready.wait();
        let start = Instant::now();
        api::order(&side.hosts, "h2", &format!("POST /containers/{name}/start")).unwrap();
        let answered = start.elapsed();
        let known = known.join().unwrap() - start;
        (known.as_secs_f64(), answered.as_secs_f64())
    });
    side.hosts.docker("h2", format!("rm -f {name}")).unwrap();
    took
}

fn queries(arena: &Arena, rounds: usize) -> Row {
    let askers: Vec<names::Asker> = arena.sides().map(|side| names::Asker::new(&side.hosts, NAMES)).collect();
    let mut values = vec![Vec::new(); askers.len()];
    for _ in 0..rounds {
        for (asker, values) in askers.iter().zip(&mut values) {
            values.push(asker.rate());
        }
    }
    table(arena, QUERIES, values)
}
