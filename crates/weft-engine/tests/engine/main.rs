//! The engine with the real kernel: overlayfs, namespaces, cgroups, seccomp. Needs root.
//!
//! The binary is its own shim and runtime child. Arguments are those of the usual test programs: a part of a name,
//! `--list`, `--exact`; each test runs in a thread with its own runtime and its own roots.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program without the usual harness"
)]

mod changes;
mod confinement;
mod copies;
mod execs;
mod health;
mod images;
mod lifecycle;
mod pulls;
mod pushes;
mod registry;
mod restarts;
mod stats;
mod streams;
mod support;
mod tasks;

use std::ffi::OsString;
use std::time::{Duration, Instant};

/// A test: its name and what it does.
pub(crate) type Test = (&'static str, fn());

/// How long one test may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("shim") => weft_engine::shim_main(args[1..].to_vec()),
        Some("runtime") => weft_engine::runtime_main(args[1..].to_vec()),
        _ => std::process::exit(run(&args)),
    }
}

fn run(args: &[OsString]) -> i32 {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| if has("--exact") { name == *filter } else { name.contains(filter.as_str()) })
    };
    let all = [
        lifecycle::TESTS,
        streams::TESTS,
        execs::TESTS,
        confinement::TESTS,
        restarts::TESTS,
        images::TESTS,
        pulls::TESTS,
        pushes::TESTS,
        health::TESTS,
        tasks::TESTS,
        stats::TESTS,
        copies::TESTS,
        changes::TESTS,
    ];
    let tests: Vec<Test> = all.concat().into_iter().filter(|(name, _)| wanted(name)).collect();
    if has("--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return 0;
    }
    if !support::can_run() {
        return 1;
    }
    let mut failed = Vec::new();
    for (name, test) in &tests {
        let begin = Instant::now();
        let thread = std::thread::Builder::new().name((*name).to_owned()).spawn(*test).unwrap();
        while !thread.is_finished() && begin.elapsed() < TIME_LIMIT {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let ok = thread.is_finished() && thread.join().is_ok();
        println!(
            "test {name} ... {} ({:.2} s)",
            if ok { "ok" } else { "FAILED" },
            begin.elapsed().as_secs_f64()
        );
        if !ok {
            failed.push(name);
        }
    }
    println!("test result: {} passed; {} failed", tests.len() - failed.len(), failed.len());
    i32::from(!failed.is_empty())
}
