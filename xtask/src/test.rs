//! `cargo xtask test`: all that CI runs, in the order in which mistakes are cheapest to find.

use anyhow::{Result, bail};

use crate::packages;
use crate::run::{Steps, cargo, need_root, run};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] =
    &[("fmt", fmt), ("clippy", clippy), ("unit", unit), ("sim", sim), ("e2e", e2e), ("peers", peers)];

/// Runs the named steps, or all.
pub(crate) fn test(names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|n| STEPS.iter().all(|(name, _)| name != *n)) {
        let known: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step '{unknown}'; there are {}", known.join(", "));
    }
    need_root()?;
    let mut steps = Steps::default();
    let outcome = steps.step("packages", packages::for_tests).and_then(|()| {
        STEPS
            .iter()
            .filter(|(name, _)| names.is_empty() || names.contains(name))
            .try_for_each(|(name, work)| steps.step(name, work))
    });
    steps.print();
    outcome
}

fn fmt() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run(&mut cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Unit and property tests of every crate; those that need the kernel run as root in namespaces of their own.
fn unit() -> Result<()> {
    run(&mut cargo(&["test", "--quiet", "--workspace", "--exclude", "weft-e2e", "--exclude", "weft-sim"]))
}

/// Simulations, optimised: in a debug build they would take ten times as long.
fn sim() -> Result<()> {
    run(&mut cargo(&["test", "--quiet", "--release", "--package", "weft-sim"]))
}

fn e2e() -> Result<()> {
    crate::demo::build_daemon()?;
    run(&mut cargo(&["test", "--package", "weft-e2e", "--test", "hosts"]))
}

/// The wire check against a real Docker engine.
fn peers() -> Result<()> {
    crate::demo::build_daemon()?;
    run(&mut cargo(&["test", "--package", "weft-e2e", "--test", "wire_check"]))
}

/// Mends what can be mended mechanically.
pub(crate) fn fix() -> Result<()> {
    run(&mut cargo(&["fmt", "--all"]))?;
    run(&mut cargo(&["clippy", "--fix", "--allow-dirty", "--workspace", "--all-targets"]))
}
