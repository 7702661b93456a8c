//! The long proofs.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{cargo, need_root, root, run, target};

type Soak = (&'static str, fn() -> Result<()>);

const SOAKS: &[Soak] = &[("gossip", gossip)];

/// Runs one soak, or all; each continues where it stopped.
pub(crate) fn soak(names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|n| SOAKS.iter().all(|(name, _)| name != *n)) {
        let known: Vec<_> = SOAKS.iter().map(|(name, _)| *name).collect();
        bail!("no soak '{unknown}'; there are {}", known.join(", "));
    }
    SOAKS.iter().filter(|(name, _)| names.is_empty() || names.contains(name)).try_for_each(|(_, work)| work())
}

/// A thousand seeds of two hundred nodes. What is done is kept by commit: results of other code do not count.
fn gossip() -> Result<()> {
    let commit = commit()?;
    let state = target().join("soak").join(format!("gossip-{commit}"));
    let mut command = cargo(&["run", "--release", "--package", "weft-sim", "--", "gossip"]);
    command.args(["--seeds", "0..1000", "--record", "docs/soak/gossip.md", "--commit", &commit]);
    command.arg("--state").arg(state);
    run(&mut command).context("a slice ends after 25 minutes: unless a seed failed, run it again to go on")
}

/// The commit that is checked out.
fn commit() -> Result<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()).output();
    let output = output.context("start git")?;
    if !output.status.success() {
        bail!("git does not know which commit this is: run the soak in a clone");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Measures beside Docker in the same run, both as they are shipped.
pub(crate) fn bench() -> Result<()> {
    need_root()?;
    crate::packages::for_tests()?;
    run(&mut cargo(&["build", "--release", "--package", "weft", "--package", "weft-e2e"]))?;
    let built = target().join("release");
    run(Command::new(built.join("bench")).env("WEFT_BIN", built.join("weft")))
}
