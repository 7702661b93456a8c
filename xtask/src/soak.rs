//! The long proofs.

use anyhow::{Result, bail};

use crate::run::{cargo, run};

/// Soaks by name: what cargo runs for each.
const SOAKS: &[(&str, &[&str])] = &[(
    "gossip",
    &[
        "run",
        "--release",
        "--package",
        "weft-sim",
        "--",
        "gossip",
        "--seeds",
        "0..1000",
        "--record",
        "docs/soak/gossip.md",
    ],
)];

/// Runs one soak, or all; each continues where it stopped.
pub(crate) fn soak(names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|n| SOAKS.iter().all(|(name, _)| name != *n)) {
        let known: Vec<_> = SOAKS.iter().map(|(name, _)| *name).collect();
        bail!("no soak '{unknown}'; there are {}", known.join(", "));
    }
    SOAKS
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name))
        .try_for_each(|(_, args)| run(&mut cargo(args)))
}

/// Measures beside Docker in the same run, both as they are shipped.
pub(crate) fn bench() -> Result<()> {
    crate::run::need_root()?;
    crate::packages::for_tests()?;
    run(&mut cargo(&["build", "--release", "--package", "weft", "--package", "weft-e2e"]))?;
    let built = crate::run::target().join("release");
    run(std::process::Command::new(built.join("bench")).env("WEFT_BIN", built.join("weft")))
}
