//! `cargo xtask demo`: build, then let the product show itself.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::run::{cargo, need_root, run, target};

/// Builds the one binary and gives it its second name.
pub(crate) fn build_daemon() -> Result<PathBuf> {
    run(&mut cargo(&["build", "--package", "weft"]))?;
    let dir = target().join("debug");
    let daemon = dir.join("weftd");
    if daemon.read_link().is_err() {
        std::os::unix::fs::symlink("weft", &daemon).with_context(|| format!("link {} to weft", daemon.display()))?;
    }
    Ok(dir.join("weft"))
}

/// Builds what is missing and runs `weft lab demo`.
pub(crate) fn demo(args: &[&str]) -> Result<()> {
    if let Some(unknown) = args.iter().find(|a| **a != "--keep") {
        bail!("demo takes --keep, not {unknown}");
    }
    need_root()?;
    packages::for_demo()?;
    println!("building weft (the first time this takes some minutes)");
    let weft = build_daemon()?;
    run(std::process::Command::new(weft).args(["lab", "demo"]).args(args))
}
