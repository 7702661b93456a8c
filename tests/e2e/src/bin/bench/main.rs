//! Weft beside Docker on the same machine in the same run, as ratios: `cargo xtask bench [PART]`. What Docker's engine
//! cannot do on every kernel stands beside direct access.
//!
//! Hosts of each engine, containers on an attachable overlay of theirs. Rounds alternate between the engines, so that
//! what else the machine does hits both; the median counts. `overlay` is the part with most in it, and the one whose
//! result is a document.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that cannot be taken ends the run"
)]

mod bare;
mod burst;
mod changes;
mod chart;
mod datagrams;
mod ends;
mod engine;
mod ingress;
mod labs;
mod managers;
mod memory;
mod names;
mod options;
mod overlay;
mod path;
mod race;
mod record;
mod requests;
mod row;
mod services;
mod side;
mod stats;
mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use options::Options;
use side::{Engine, Side};
use weft_e2e::weft_exe;
use weft_lab::{DaemonSpec, eventually};

/// Rounds of each measurement.
const ROUNDS: usize = 5;
/// Rounds of elections, each with hosts of its own.
const ELECTIONS: usize = 3;
/// For what has to become visible elsewhere.
const DEADLINE: Duration = Duration::from_secs(20);

/// All groups of `overlay` one after the other, with a document in the end. Each can be measured alone, by its name.
const OVERLAY: &str = "overlay";
/// Other parts beside Docker.
const BESIDE: [(&str, fn()); 5] = [
    ("ready", ready),
    ("engine", engine::measure),
    ("names", names_on_both),
    ("election", || {
        apart("leader of 3 killed until another answers, s (goal <= 3 s)", ELECTIONS, managers::election);
    }),
    ("managers", || {
        apart("manager with 1,000 services, PSS, MiB (goal <= 64)", 1, managers::with_services);
    }),
];
/// Those beside direct access.
const DIRECT: [(&str, fn()); 2] = [("ingress", ingress::measure), ("changes", changes::measure)];

fn main() -> ExitCode {
    labs::remove_on_signals();
    let mut parts = vec![OVERLAY];
    parts.extend(overlay::groups().chain(BESIDE.iter().chain(&DIRECT).map(|(name, _)| *name)));
    let options = match Options::read(std::env::args().skip(1), &parts) {
        Ok(options) => options,
        Err(error) => {
            println!("bench: {error}");
            return ExitCode::from(2);
        }
    };
    let whole = options.wants(OVERLAY);
    if whole || overlay::groups().any(|group| options.wants(group)) {
        let record = options.record.as_ref().filter(|_| whole);
        overlay::measure(|group| whole || options.wants(group), options.effort, record);
    }
    for (other, parts) in [("Docker", &BESIDE[..]), ("direct", &DIRECT)] {
        let mut wanted = parts.iter().filter(|(name, _)| options.wants(name)).peekable();
        if wanted.peek().is_some() {
            println!("\n{:<70} {other:>8} {:>8} {:>7}", "median of rounds", "Weft", "ratio");
            wanted.for_each(|(_, measure)| measure());
        }
    }
    ExitCode::SUCCESS
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
            let lab = weft_lab::Lab::up(labs::bridged("benchr", 1)).unwrap();
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
fn names_on_both() {
    let sides = [Engine::docker(), Engine::wefts().swap_remove(0)].map(|engine| Side::up(&engine));
    for count in [3, 1000] {
        let askers = sides.each_ref().map(|side| names::Asker::new(&side.hosts, count));
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

fn report(what: &str, values: [Vec<f64>; 2]) {
    let [docker, weft] = values.map(|values| stats::median(&values));
    println!("{what:<70} {docker:>8.3} {weft:>8.3} {:>7.2}", weft / docker);
}

/// With nothing beside it.
fn alone(what: &str, value: f64) {
    println!("{what:<70} {:>8} {value:>8.3}", "");
}
