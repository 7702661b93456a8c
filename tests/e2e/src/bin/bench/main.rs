//! Weft beside Docker on the same machine in the same run, as ratios: `cargo xtask bench`.
//!
//! Two hosts of each engine, containers on an attachable overlay of theirs. Rounds alternate between the engines, so
//! that what else the machine does hits both; the median counts.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that cannot be taken ends the run"
)]

mod managers;
mod memory;
mod names;
mod services;
mod traffic;

use std::time::{Duration, Instant};

use traffic::{Kind, Path, Sample};
use weft_e2e::{Hosts, ping, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

/// Rounds of each measurement.
const ROUNDS: usize = 5;
/// Rounds of short bursts of traffic.
const BURSTS: usize = 24;
/// Rounds of elections, each with hosts of its own.
const ELECTIONS: usize = 3;
/// For what has to become visible elsewhere.
const DEADLINE: Duration = Duration::from_secs(20);

/// One engine under measurement.
struct Side {
    name: &'static str,
    hosts: Hosts,
    /// Between containers on two hosts.
    overlay: Path,
    /// Between the two hosts themselves.
    underlay: Path,
}

fn main() {
    println!("{:<56} {:>8} {:>8} {:>7}", "median of rounds", "Docker", "Weft", "ratio");
    ready();
    let docker = Side::up("docker", DaemonSpec::docker());
    let weft = Side::up("weft", DaemonSpec::weft(&weft_exe()));
    names(&docker, &weft);
    if std::env::args().nth(1).as_deref() == Some("names") {
        return;
    }
    traffic(&docker, &weft);
    compare(
        "run until first ping by name elsewhere, s (goal <= 0.5)",
        ROUNDS,
        [&docker, &weft],
        Side::first_ping,
    );
    compare("a new name visible elsewhere, s (goal <= 0.1 s)", ROUNDS, [&docker, &weft], Side::new_name);
    let idle = |side: &Side, _| memory::of_host(&side.hosts, "h3", side.name);
    compare("idle worker, PSS of all its processes, MiB (goal <= 30)", 1, [&docker, &weft], idle);
    let ten = |side: &Side, _| services::converge(&side.hosts, 10);
    compare("10 replicas running, s (goal <= 0.5)", ROUNDS, [&docker, &weft], ten);
    let hundred = |side: &Side, _| services::converge(&side.hosts, 100);
    compare("100 replicas running, s", 1, [&docker, &weft], hundred);
    // The last one: the host stays dead.
    let killed = |side: &Side, _| services::reschedule(&side.hosts, "h3");
    compare("node killed until its tasks run elsewhere, s (goal <= 8 s)", 1, [&docker, &weft], killed);
    drop((docker, weft));
    alone("leader of 3 killed until another answers, s (goal <= 3 s)", ELECTIONS, managers::election);
    alone("manager with 1,000 services, PSS, MiB (goal <= 64)", 1, managers::with_services);
}

/// Measures each engine in a lab of its own.
fn alone(what: &str, rounds: usize, measure: impl Fn(&str, &DaemonSpec) -> f64) {
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
        let mut samples = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..BURSTS {
            for (path, samples) in
                [&docker.overlay, &weft.overlay, &weft.underlay].into_iter().zip(&mut samples)
            {
                samples.push(path.measure(kind));
            }
        }
        let [on_docker, on_weft, bare] = samples;
        let of = |samples: &[Sample], part: fn(&Sample) -> f64| samples.iter().map(part).collect::<Vec<_>>();
        for (line, part) in [
            (format!("overlay {what}"), (|s| s.value) as fn(&Sample) -> f64),
            (format!("  {cpu}"), |s| s.cpu),
        ] {
            report(&line, [of(&on_docker, part), of(&on_weft, part)]);
        }
        println!("  {:<54} {:>8} {:>8.3}", "bare hosts", "", median(of(&bare, |s| s.value)));
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
    println!("{what:<56} {docker:>8.3} {weft:>8.3} {:>7.2}", weft / docker);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Side {
    fn up(name: &'static str, spec: DaemonSpec) -> Self {
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
    fn first_ping(&self, round: usize) -> f64 {
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
    fn new_name(&self, round: usize) -> f64 {
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
