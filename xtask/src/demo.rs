//! `cargo xtask demo`: build, then let the product show itself.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::run::{cargo, need_root, run, target};

/// `cargo xtask build`: the binary, and where it is.
pub(crate) fn build(args: &[&str]) -> Result<()> {
    let profile = match args {
        [] => Profile::Debug,
        ["--release"] => Profile::Release,
        _ => bail!("build takes --release, not {}", args.join(" ")),
    };
    packages::for_build()?;
    let weft = build_weft(profile)?;
    println!("\n{}  (and weftd beside it)", weft.display());
    Ok(())
}

/// Builds the daemon that tests and demo start.
pub(crate) fn build_daemon() -> Result<PathBuf> {
    build_weft(Profile::Debug)
}

/// What a binary is built for.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Tests.
    Debug,
    Release,
    /// Users: smaller and faster, minutes slower to build.
    Dist,
}

/// Builds the one binary and gives it its second name.
pub(crate) fn build_weft(profile: Profile) -> Result<PathBuf> {
    let (dir, flags): (_, &[&str]) = match profile {
        Profile::Debug => ("debug", &[]),
        Profile::Release => ("release", &["--release"]),
        Profile::Dist => ("dist", &["--profile", "dist"]),
    };
    run(cargo(&["build", "--package", "weft"]).args(flags))?;
    let dir = target().join(dir);
    let daemon = dir.join("weftd");
    if daemon.read_link().is_err() {
        std::os::unix::fs::symlink("weft", &daemon)
            .with_context(|| format!("link {} to weft", daemon.display()))?;
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
