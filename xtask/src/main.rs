//! Everything a developer or a first-time user runs: `cargo xtask <command>`.
//!
//! This crate is built before anything else and with few dependencies, so that it can install what the rest
//! needs. Nothing here is part of the product.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod clients;
mod demo;
mod deny;
mod interop;
mod package;
mod packages;
mod peer;
mod pinned;
mod run;
mod soak;
mod stores;
mod test;
mod vm;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  build [--release]   target/debug/weft, and weftd as its second name
  package [--debug]   a Debian package in target/package
  demo [--keep]       two hosts behind a router, one overlay network between containers on them
  test [STEP ...]     everything CI runs; STEP is one of fmt, clippy, deny, unit, sim, e2e, package, vm,
                      peers
  soak [NAME]         the long proofs, resumable; writes docs/soak/NAME.md
  bench [PART] [--quick]
                      measurements beside Docker, printed as ratios; an unknown PART has the parts listed;
                      `overlay` writes docs/performance.md and its chart, `growth` docs/growth.md
  fix                 cargo fmt and clippy --fix
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.split_first() {
        Some((&"build", rest)) => demo::build(rest),
        Some((&"package", rest)) => package::package(rest),
        Some((&"demo", rest)) => demo::demo(rest),
        Some((&"test", rest)) => test::test(rest),
        Some((&"soak", rest)) => soak::soak(rest),
        Some((&"bench", rest)) => soak::bench(rest),
        Some((&"fix", [])) => test::fix(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ncargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
