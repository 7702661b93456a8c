//! A newer Docker engine than the machine's own, as a second peer of the wire check.
//!
//! Debian's later suites carry newer engines. Their daemon needs little of its suite: unpacked into a folder that is
//! first on the PATH it runs with this machine's libraries, containerd and runc.
//!
//! Which package that is, is pinned in one table, so that a result stands for the same engine wherever it is repeated.
//! A package that the mirror no longer has is passed over with a word; one with another checksum is an error.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::pinned::{Package, Problem, path_with};

/// The packages, newest engine first. When a suite has moved on, `apt-cache show docker.io` names the next line.
const PINNED: &[Package] = &[
    Package {
        suite: "sid",
        name: "docker.io:amd64",
        version: "28.5.2+dfsg4-5",
        sha256: "69a59cc77a1fb8ee9ad6859abc2e6de5d76b70887405595c2b1307818fecf682",
    },
    Package {
        suite: "trixie",
        name: "docker.io:amd64",
        version: "26.1.5+dfsg1-9+deb13u1",
        sha256: "142fe32f839a20720b2e6074b8d28d883b01bc45345f7315586b0c2d348dae87",
    },
];

/// An engine unpacked below the target folder.
pub(crate) struct Engine {
    /// What it says of itself.
    pub(crate) version: String,
    programs: PathBuf,
}

impl Engine {
    /// The newest engine that can be had and that runs here; none when the mirror has none of them.
    pub(crate) fn newest() -> Result<Option<Self>> {
        for package in PINNED {
            match Self::of(package) {
                Ok(engine) => return Ok(Some(engine)),
                Err(Problem::Missing(problem)) => {
                    println!("no {} {} of {}: {problem:#}", package.name, package.version, package.suite);
                }
                Err(Problem::Changed(problem)) => return Err(problem),
            }
        }
        Ok(None)
    }

    /// The PATH with this engine's programs first.
    pub(crate) fn path(&self) -> Result<OsString> {
        path_with([self.programs.clone()])
    }

    fn of(package: &Package) -> Result<Self, Problem> {
        let programs = package.unpacked()?.join("usr/sbin");
        let output = Command::new(programs.join("dockerd")).arg("--version").output();
        let output = output.context("start its dockerd")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Problem::Missing(anyhow!("its dockerd does not run here: {said}")));
        }
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { version: format!("{said} (package {}, {})", package.version, package.suite), programs })
    }
}
