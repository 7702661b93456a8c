//! `cargo xtask test`: all that CI runs, in the order in which mistakes are cheapest to find.

use anyhow::{Result, bail};

use crate::packages;
use crate::peer::Engine;
use crate::run::{Counts, Steps, cargo, need_root, run, run_tests};

type Step = (&'static str, fn(&mut Counts) -> Result<()>);

const STEPS: &[Step] = &[
    ("fmt", fmt),
    ("clippy", clippy),
    ("deny", deny),
    ("unit", unit),
    ("sim", sim),
    ("e2e", e2e),
    ("package", crate::package::checks),
    ("vm", crate::vm::checks),
    ("peers", peers),
];

/// Runs the named steps, or all.
pub(crate) fn test(names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|n| STEPS.iter().all(|(name, _)| name != *n)) {
        let known: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step '{unknown}'; there are {}", known.join(", "));
    }
    need_root()?;
    let (mut steps, mut counts) = (Steps::default(), Counts::default());
    let outcome = steps.step("packages", packages::for_tests).and_then(|()| {
        STEPS
            .iter()
            .filter(|(name, _)| names.is_empty() || names.contains(name))
            // A step that fails does not hide what the others would say.
            .map(|(name, work)| steps.step(name, || work(&mut counts)).inspect_err(|e| eprintln!("\n{e:#}")))
            .fold(Ok(()), Result::and)
    });
    steps.print();
    println!("\n{} passed, {} failed", counts.passed, counts.failed);
    outcome
}

fn fmt(_: &mut Counts) -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))
}

fn clippy(_: &mut Counts) -> Result<()> {
    run(&mut cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn deny(_: &mut Counts) -> Result<()> {
    crate::deny::check()
}

/// Unit and property tests of every crate; those that need the kernel run as root in namespaces of their own.
fn unit(counts: &mut Counts) -> Result<()> {
    let args = [
        "test",
        "--quiet",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "weft-e2e",
        "--exclude",
        "weft-sim",
    ];
    run_tests(cargo(&args).env("PATH", crate::stores::path()?), counts)
}

/// Simulations, optimised: in a debug build they would take ten times as long.
fn sim(counts: &mut Counts) -> Result<()> {
    run_tests(&mut cargo(&["test", "--quiet", "--release", "--package", "weft-sim"]), counts)
}

/// Whole hosts with daemons, driven with the docker CLI. More tests at a time than processors: mostly they wait.
fn e2e(counts: &mut Counts) -> Result<()> {
    crate::demo::build_daemon()?;
    let tests = [
        "--lib",
        "--bin",
        "bench",
        "--test",
        "hosts",
        "--test",
        "local_engine",
        "--test",
        "clients",
        "--test",
        "contract",
        "--test",
        "api_refusals",
    ];
    let mut command = cargo(&["test", "--no-fail-fast", "--package", "weft-e2e"]);
    command.env("PATH", crate::stores::path()?).envs(crate::clients::environment()?);
    run_tests(command.args(tests).args(["--", "--test-threads=4"]), counts)
}

/// Swarms of both engines beside the machine's Docker engine, and the wire check also beside the newest to be had.
fn peers(counts: &mut Counts) -> Result<()> {
    crate::demo::build_daemon()?;
    let check =
        || cargo(&["test", "--package", "weft-e2e", "--test", "wire_check", "--", "--test-threads=1"]);
    run_tests(&mut check(), counts)?;
    crate::interop::mixed(counts)?;
    // Without one the check itself was done; a mirror without later suites is no mistake of ours.
    let Some(engine) = Engine::newest()? else { return Ok(()) };
    println!("\nonce more beside {}", engine.version);
    run_tests(check().env("PATH", engine.path()?), counts)
}

/// Mends what can be mended mechanically.
pub(crate) fn fix() -> Result<()> {
    run(&mut cargo(&["fmt", "--all"]))?;
    run(&mut cargo(&["clippy", "--fix", "--allow-dirty", "--workspace", "--all-targets"]))
}
