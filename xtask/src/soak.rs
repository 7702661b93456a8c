//! The long proofs.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{cargo, need_root, root, run, target};

/// Crates with tests named `measured_…`, which print how something grows and are ignored otherwise.
const MEASUREMENTS: &[&str] =
    &["weft-orchestration", "weft-manager", "weft-e2e", "weft-network", "weft-kernel"];

type Soak = (&'static str, fn() -> Result<()>);

const SOAKS: &[Soak] = &[
    ("gossip", gossip),
    ("swarm", swarm),
    ("raft", raft),
    ("quorum", quorum),
    ("keys", keys),
    ("updates", updates),
    ("restarts", restarts),
    ("outage", outage),
    ("partitions", partitions),
    ("damage", damage),
    ("leaks", leaks),
    ("crashes", crashes),
    ("interop", interop),
];

/// Runs one soak, or all; each continues where it stopped.
pub(crate) fn soak(names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|n| SOAKS.iter().all(|(name, _)| name != *n)) {
        let known: Vec<_> = SOAKS.iter().map(|(name, _)| *name).collect();
        bail!("no soak '{unknown}'; there are {}", known.join(", "));
    }
    SOAKS.iter().filter(|(name, _)| names.is_empty() || names.contains(name)).try_for_each(|(_, work)| work())
}

/// A thousand seeds of two hundred nodes.
fn gossip() -> Result<()> {
    simulate("gossip", "0..1000")
}

/// Five thousand swarms.
fn swarm() -> Result<()> {
    simulate("swarm", "0..5000")
}

/// Two thousand groups of managers.
fn raft() -> Result<()> {
    simulate("raft", "0..2000")
}

/// Real hosts; half of the rounds kill the leader, which makes a hundred of them.
fn quorum() -> Result<()> {
    in_slices("quorum", &["--rounds", "200"])
}

/// Fifty rolling updates under load of either order, daemons killed and stopped during some.
fn updates() -> Result<()> {
    in_slices("updates", &["--rounds", "100"])
}

/// A daemon is stopped, killed, restarted and upgraded a hundred times each, under load.
fn restarts() -> Result<()> {
    in_slices("restarts", &["--rounds", "400"])
}

/// A daemon is away for ten minutes, once stopped and once killed, beside Docker's engine.
fn outage() -> Result<()> {
    in_slices("outage", &[])
}

/// A hundred partitions of 10 to 30 seconds in four labs.
fn partitions() -> Result<()> {
    in_slices("partitions", &["--rounds", "100"])
}

/// Every kind of damage to the kernel ten times, under traffic.
fn damage() -> Result<()> {
    in_slices("damage", &[])
}

/// A thousand containers come and go.
fn leaks() -> Result<()> {
    in_slices("leaks", &[])
}

/// Daemon and shims are killed two hundred times while containers come and go.
fn crashes() -> Result<()> {
    in_slices("crashes", &[])
}

/// Twenty rotations beside Docker's engine.
fn keys() -> Result<()> {
    on_hosts("keys", &[])
}

/// Every scenario in every cell, beside two Docker engines.
fn interop() -> Result<()> {
    crate::interop::soak(&commit()?)
}

/// A soak on hosts that may need more than one call.
fn in_slices(subject: &str, options: &[&str]) -> Result<()> {
    on_hosts(subject, options)
        .context("a slice ends after 25 minutes: unless a round failed, run it again to go on")
}

/// Runs a soak of the end-to-end tests' own program, in whole labs.
fn on_hosts(subject: &str, options: &[&str]) -> Result<()> {
    need_root()?;
    crate::packages::for_tests()?;
    let commit = commit()?;
    run(&mut cargo(&["build", "--release", "--package", "weft", "--package", "weft-e2e"]))?;
    let built = target().join("release");
    let state = target().join("soak").join(format!("{subject}-{commit}"));
    let record = format!("docs/soak/{subject}.md");
    let mut command = Command::new(built.join("soak"));
    command.arg(subject).args(options).args(["--record", &record, "--commit", &commit]);
    run(command.arg("--state").arg(state).env("WEFT_BIN", built.join("weft")).current_dir(root()))
}

/// What is done is kept by commit: results of other code do not count.
fn simulate(subject: &str, seeds: &str) -> Result<()> {
    let commit = commit()?;
    let state = target().join("soak").join(format!("{subject}-{commit}"));
    let record = format!("docs/soak/{subject}.md");
    let mut command = cargo(&["run", "--release", "--package", "weft-sim", "--", subject]);
    command.args(["--seeds", seeds, "--record", &record, "--commit", &commit]).arg("--state").arg(state);
    run(&mut command).context("a slice ends after 25 minutes: unless a seed failed, run it again to go on")
}

/// The commit that is checked out.
fn commit() -> Result<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()).output();
    let output = output.context("start git")?;
    if !output.status.success() {
        bail!("git does not know which commit this is: run it in a clone");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Measures beside Docker in the same run, both as they are shipped; or only a part of that.
pub(crate) fn bench(words: &[&str]) -> Result<()> {
    need_root()?;
    crate::packages::for_tests()?;
    let commit = commit()?;
    if words == ["growth"] {
        return growth(&commit);
    }
    run(&mut cargo(&["build", "--release", "--package", "weft", "--package", "weft-e2e"]))?;
    let built = target().join("release");
    let mut command = Command::new(built.join("bench"));
    command.args(words).args(["--record", "docs/performance.md", "--commit", &commit]);
    run(command.env("WEFT_BIN", built.join("weft")).current_dir(root()))?;
    if words.iter().any(|word| !word.starts_with("--")) {
        return Ok(());
    }
    MEASUREMENTS.iter().try_for_each(|package| {
        println!("\n{package}");
        let tests = ["test", "--quiet", "--release", "--package", package, "--", "--ignored", "--nocapture"];
        run(with_growth_record(cargo(&tests).args(["--test-threads=1", "measured"]), &commit))
    })
}

/// How a node's work grows with what it has to know: no comparison, a document of its own.
fn growth(commit: &str) -> Result<()> {
    let tests = ["test", "--release", "--package", "weft-network", "--test", "curves", "--", "--ignored"];
    run(with_growth_record(cargo(&tests).args(["--nocapture", "measured_curves"]), commit))
}

/// Where the measurement of growth writes its document, and how that begins.
fn with_growth_record<'a>(command: &'a mut Command, commit: &str) -> &'a mut Command {
    let head = format!(
        "# Growth\n\nWhat a node has to know of others, all told at once and then one more (median of 11), until kernel and \
         resolver follow; memory by which controller and helper (resident) and the kernel (slab, per processor, stacks, page \
         tables; of the whole machine) grow; and the median of what is looked up among it: a request and its answer over UDP \
         between two containers of the node, or the first datagram of a new flow to a virtual IP. Networks come one after the \
         other, each with a container.\n\nCommit `{commit}`. Repeat: `cargo xtask bench growth`.\n"
    );
    command.env("WEFT_RECORD", root().join("docs/growth.md")).env("WEFT_RECORD_HEAD", head)
}
