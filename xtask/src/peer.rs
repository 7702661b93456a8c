//! A newer Docker engine than the machine's own, as a second peer of the wire check.
//!
//! Debian's later suites carry newer engines. Their daemon needs little of its suite: unpacked into a folder that is
//! first on the PATH it runs with this machine's libraries, containerd and runc.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{run, target};

/// Suites to look in, newest engine first.
const SUITES: &[&str] = &["sid", "trixie"];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An engine unpacked below the target folder.
pub(crate) struct Engine {
    /// What it says of itself.
    pub(crate) version: String,
    programs: PathBuf,
}

impl Engine {
    /// The newest engine that can be had and that runs here.
    pub(crate) fn newest() -> Result<Self> {
        let mut problems = Vec::new();
        for suite in SUITES {
            match Self::of(suite) {
                Ok(engine) => return Ok(engine),
                Err(problem) => problems.push(format!("{suite}: {problem:#}")),
            }
        }
        bail!("{}", problems.join("; "))
    }

    /// The PATH with this engine's programs first.
    pub(crate) fn path(&self) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path));
        std::env::join_paths(dirs).context("a PATH with the newer engine")
    }

    fn of(suite: &str) -> Result<Self> {
        let dir = target().join("peers").join(suite);
        if !dir.exists() {
            let partial = dir.with_extension("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
            }
            fetch(suite, &partial)?;
            fs::rename(&partial, &dir).with_context(|| format!("rename to {}", dir.display()))?;
        }
        let programs = dir.join("usr/sbin");
        let output = Command::new(programs.join("dockerd")).arg("--version").output();
        let output = output.context("start its dockerd")?;
        if !output.status.success() {
            bail!("its dockerd does not run here: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self { version: String::from_utf8_lossy(&output.stdout).trim().to_owned(), programs })
    }
}

/// Unpacks a suite's engine into `dir`, with package lists of its own: the machine's apt is not touched.
fn fetch(suite: &str, dir: &Path) -> Result<()> {
    let apt = dir.join("apt");
    for folder in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(apt.join(folder))
            .with_context(|| format!("make {folder} in {}", apt.display()))?;
    }
    let source = format!("deb [signed-by={KEYS}] {} {suite} main\n", mirror()?);
    let at = apt.display();
    let options = format!(
        "Dir::State \"{at}\";\nDir::State::status \"{at}/status\";\nDir::State::lists \"{at}/lists\";\n\
         Dir::Cache \"{at}\";\nDir::Etc::SourceList \"{at}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n\
         Dir::Etc::PreferencesParts \"/dev/null\";\nAPT::Sandbox::User \"root\";\n"
    );
    for (name, text) in [("status", ""), ("sources.list", source.as_str()), ("apt.conf", options.as_str())] {
        fs::write(apt.join(name), text).with_context(|| format!("write {name} in {at}"))?;
    }
    let command = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(words).env("APT_CONFIG", apt.join("apt.conf")).current_dir(&apt);
        command
    };
    println!("fetching docker.io of {suite}");
    run(&mut command(&["-qq", "update"]))?;
    run(&mut command(&["-qq", "download", "docker.io"]))?;
    let entries = fs::read_dir(&apt).with_context(|| format!("read {at}"))?;
    let package = entries.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
    run(Command::new("dpkg-deb").arg("-x").arg(package.context("the downloaded package")?).arg(dir))?;
    fs::remove_dir_all(&apt).with_context(|| format!("remove {at}"))
}

/// Where this machine gets Debian's packages from.
fn mirror() -> Result<String> {
    let output = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output();
    let output = output.context("ask apt-get for the machine's package sources")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut addresses = text.lines().map(|l| l.trim_end_matches('/'));
    let mirror = addresses.find(|a| a.ends_with("/debian"));
    Ok(mirror.context("the machine's package sources name no mirror of Debian")?.to_owned())
}
