//! Weft beside Docker on the same machine in the same run, as ratios: `cargo xtask bench [PART]`. What Docker's engine
//! cannot do on every kernel stands beside direct access.
//!
//! Two hosts of each engine, containers on an attachable overlay of theirs. Rounds alternate between the engines, so
//! that what else the machine does hits both; the median counts.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that cannot be taken ends the run"
)]

mod changes;
mod encryption;
mod engine;
mod ingress;
mod managers;
mod memory;
mod names;
mod requests;
mod services;
mod side;
mod traffic;
mod vip;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use side::Side;
use traffic::{Kind, Sample, in_turn, of};
use weft_e2e::weft_exe;
use weft_lab::{DaemonSpec, LabSpec, eventually};

/// Rounds of each measurement.
const ROUNDS: usize = 5;
/// Rounds of elections, each with hosts of its own.
const ELECTIONS: usize = 3;
/// For what has to become visible elsewhere.
const DEADLINE: Duration = Duration::from_secs(20);

/// Parts that share hosts of both engines. Each part can be measured alone, by its name as the argument.
const ON_BOTH: [&str; 6] = ["names", "traffic", "encryption", "visible", "memory", "services"];
/// Those of which each engine has hosts of its own.
const APART: [&str; 4] = ["ready", "engine", "election", "managers"];
/// Those beside direct access.
const DIRECT: [(&str, fn()); 3] =
    [("vip", vip::measure), ("ingress", ingress::measure), ("changes", changes::measure)];

fn main() -> ExitCode {
    let part = std::env::args().nth(1);
    let parts = [&ON_BOTH[..], &APART, &DIRECT.map(|(name, _)| name)].concat();
    if part.as_deref().is_some_and(|part| !parts.contains(&part)) {
        println!("bench: the parts are {}", parts.join(", "));
        return ExitCode::from(2);
    }
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if ON_BOTH.iter().chain(&APART).any(|name| wanted(name)) {
        head("Docker");
        beside_docker(wanted);
    }
    if DIRECT.iter().any(|(name, _)| wanted(name)) {
        head("direct");
        DIRECT.iter().filter(|(name, _)| wanted(name)).for_each(|(_, measure)| measure());
    }
    ExitCode::SUCCESS
}

fn head(other: &str) {
    println!("{:<70} {other:>8} {:>8} {:>7}", "median of rounds", "Weft", "ratio");
}

fn beside_docker(wanted: impl Fn(&str) -> bool) {
    if wanted("ready") {
        ready();
    }
    if wanted("engine") {
        engine::measure();
    }
    if ON_BOTH.iter().any(|name| wanted(name)) {
        on_both(&wanted);
    }
    if wanted("election") {
        apart("leader of 3 killed until another answers, s (goal <= 3 s)", ELECTIONS, managers::election);
    }
    if wanted("managers") {
        apart("manager with 1,000 services, PSS, MiB (goal <= 64)", 1, managers::with_services);
    }
}

/// What is measured on the same hosts.
fn on_both(wanted: impl Fn(&str) -> bool) {
    let docker = Side::up("docker", DaemonSpec::docker());
    let weft = Side::up("weft", DaemonSpec::weft(&weft_exe()));
    if wanted("names") {
        names(&docker, &weft);
    }
    if wanted("traffic") {
        traffic(&docker, &weft);
    }
    if wanted("encryption") {
        encryption::measure(&docker, &weft);
    }
    let sides = [&docker, &weft];
    if wanted("visible") {
        compare("run until first ping by name elsewhere, s (goal <= 0.5)", ROUNDS, sides, Side::first_ping);
        compare("a new name visible elsewhere, s (goal <= 0.1 s)", ROUNDS, sides, Side::new_name);
    }
    if wanted("memory") {
        let idle = |side: &Side, _| memory::of_host(&side.hosts, "h3", side.name);
        compare("idle worker, PSS of all its processes, MiB (goal <= 30)", 1, sides, idle);
    }
    if wanted("services") {
        let ten = |side: &Side, _| services::converge(&side.hosts, 10);
        compare("10 replicas running, s (goal <= 0.5)", ROUNDS, sides, ten);
        let hundred = |side: &Side, _| services::converge(&side.hosts, 100);
        compare("100 replicas running, s", 1, sides, hundred);
        // The last one: the host stays dead.
        let killed = |side: &Side, _| services::reschedule(&side.hosts, "h3");
        compare("node killed until its tasks run elsewhere, s (goal <= 8 s)", 1, sides, killed);
    }
}

/// Measures each engine in a lab of its own.
fn apart(what: &str, rounds: usize, measure: impl Fn(&str, &DaemonSpec) -> f64) {
    let mut values = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        values[0].push(measure("docker", &DaemonSpec::docker()));
        values[1].push(measure("weft", &DaemonSpec::weft(&weft_exe())));
    }
    report(what, values);
}

/// From the start of a daemon until it answers.
fn ready() {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (n, spec) in [DaemonSpec::docker(), DaemonSpec::weft(&weft_exe())].into_iter().enumerate() {
            let lab = weft_lab::Lab::up(LabSpec::bridged("benchr", 1)).unwrap();
            let start = Instant::now();
            let daemon = lab.host("h1").unwrap().start_daemon(&spec).unwrap();
            let url = daemon.url();
            eventually("the daemon answers", DEADLINE, || {
                let answer = std::process::Command::new("docker").args(["-H", &url, "version"]).output();
                if answer.is_ok_and(|o| o.status.success()) { Ok(()) } else { Err("no answer") }
            });
            took[n].push(start.elapsed().as_secs_f64());
            daemon.stop().unwrap();
        }
    }
    report("daemon ready, s (goal <= 0.3 s)", took);
}

/// Queries to both resolvers, among few names and among many.
fn names(docker: &Side, weft: &Side) {
    for count in [3, 1000] {
        let askers = [docker, weft].map(|side| names::Asker::new(&side.hosts, count));
        for (what, measure) in [
            ("queries per second (goal >= 2)", names::Asker::rate as fn(&names::Asker) -> f64),
            ("99th percentile at 20,000 a second, ms (goal <= 1 ms)", names::Asker::delay),
            ("the same beside a black hole, ms (goal < 5 ms)", names::Asker::delay_beside_a_black_hole),
        ] {
            let mut values = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (asker, values) in askers.iter().zip(&mut values) {
                    values.push(measure(asker));
                }
            }
            report(&format!("{count} names, {what}"), values);
        }
    }
}

/// Bursts over both overlays and the bare hosts in turn.
fn traffic(docker: &Side, weft: &Side) {
    for (what, cpu, kind) in [
        ("TCP, Gb/s (goal >= 1.05)", "CPU of both ends, s/GB", Kind::Stream),
        ("request-response, us (goal <= 0.85)", "CPU of both ends, us", Kind::Echo),
        ("connections per second (goal >= 1.2)", "CPU of both ends, us each", Kind::Connect),
    ] {
        let [on_docker, on_weft, bare] = in_turn([&docker.overlay, &weft.overlay, &weft.underlay], kind);
        for (line, part) in [
            (format!("overlay {what}"), (|s| s.value) as fn(&Sample) -> f64),
            (format!("  {cpu}"), |s| s.cpu),
        ] {
            report(&line, [of(&on_docker, part), of(&on_weft, part)]);
        }
        println!("  {:<68} {:>8} {:>8.3}", "bare hosts", "", median(of(&bare, |s| s.value)));
    }
}

fn compare(what: &str, rounds: usize, sides: [&Side; 2], measure: impl Fn(&Side, usize) -> f64) {
    let mut values = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for (side, values) in sides.iter().zip(&mut values) {
            values.push(measure(side, round));
        }
    }
    report(what, values);
}

fn report(what: &str, values: [Vec<f64>; 2]) {
    let [docker, weft] = values.map(median);
    println!("{what:<70} {docker:>8.3} {weft:>8.3} {:>7.2}", weft / docker);
}

/// With nothing beside it.
fn alone(what: &str, value: f64) {
    println!("{what:<70} {:>8} {value:>8.3}", "");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
