//! A newer Docker engine than the machine's own, as a second peer of the wire check.
//!
//! Debian's later suites carry newer engines. Their daemon needs little of its suite: unpacked into a folder that is
//! first on the PATH it runs with this machine's libraries, containerd and runc.
//!
//! Which package that is, is pinned in one table, so that a result stands for the same engine wherever it is repeated.
//! A package that the mirror no longer has is passed over with a word; one with another checksum is an error.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::run::{run, target};

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
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A package of Debian's, and what its file must be.
struct Package {
    suite: &'static str,
    name: &'static str,
    version: &'static str,
    /// Of the file, in hexadecimal digits.
    sha256: &'static str,
}

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
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path));
        std::env::join_paths(dirs).context("a PATH with the newer engine")
    }

    fn of(package: &Package) -> Result<Self, Problem> {
        let dir = target().join("peers").join(format!("{}-{}", package.suite, package.version));
        if !dir.exists() {
            let partial = dir.with_extension("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
            }
            let file = package.fetch(&partial.join("apt"))?;
            package.verify(&sha256(&file)?).map_err(Problem::Changed)?;
            run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&partial))?;
            fs::remove_dir_all(partial.join("apt")).context("remove the package")?;
            fs::rename(&partial, &dir).with_context(|| format!("rename to {}", dir.display()))?;
        }
        let programs = dir.join("usr/sbin");
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

/// Why there is no engine.
enum Problem {
    /// It cannot be had, or does not run: another one may.
    Missing(anyhow::Error),
    /// It is not what was pinned: nobody shall go on.
    Changed(anyhow::Error),
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::Missing(error)
    }
}

impl Package {
    /// Fails unless the downloaded file is the pinned one.
    fn verify(&self, found: &str) -> Result<()> {
        if found != self.sha256 {
            bail!(
                "{} {} of {} has the SHA-256 {found}, and pinned is {}",
                self.name,
                self.version,
                self.suite,
                self.sha256
            );
        }
        Ok(())
    }

    /// Downloads it into `apt`, with package lists of its own: the machine's apt is not touched.
    fn fetch(&self, apt: &Path) -> Result<PathBuf> {
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(apt.join(folder))
                .with_context(|| format!("make {folder} in {}", apt.display()))?;
        }
        let source = format!("deb [signed-by={KEYS}] {} {} main\n", mirror()?, self.suite);
        let at = apt.display();
        let options = format!(
            "Dir::State \"{at}\";\nDir::State::status \"{at}/status\";\nDir::State::lists \"{at}/lists\";\n\
             Dir::Cache \"{at}\";\nDir::Etc::SourceList \"{at}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n\
             Dir::Etc::PreferencesParts \"/dev/null\";\nAPT::Sandbox::User \"root\";\n"
        );
        for (name, text) in
            [("status", ""), ("sources.list", source.as_str()), ("apt.conf", options.as_str())]
        {
            fs::write(apt.join(name), text).with_context(|| format!("write {name} in {at}"))?;
        }
        let command = |words: &[&str]| {
            let mut command = Command::new("apt-get");
            command.args(words).env("APT_CONFIG", apt.join("apt.conf")).current_dir(apt);
            command
        };
        println!("fetching {} {} of {}", self.name, self.version, self.suite);
        run(&mut command(&["-qq", "update"]))?;
        run(&mut command(&["-qq", "download", &format!("{}={}", self.name, self.version)]))?;
        let entries = fs::read_dir(apt).with_context(|| format!("read {at}"))?;
        let package = entries.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
        package.context("the downloaded package")
    }
}

/// The checksum of a file, in hexadecimal digits.
fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("run sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().next().context("the answer of sha256sum")?.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_checksum_is_an_error_that_names_both() {
        let package = &PINNED[0];
        assert!(package.verify(package.sha256).is_ok());
        let other = "0".repeat(64);
        let error = package.verify(&other).unwrap_err().to_string();
        assert!(error.contains(&other) && error.contains(package.sha256), "{error}");
    }

    #[test]
    fn the_checksum_is_that_of_the_files_bytes() {
        let file = std::env::temp_dir().join(format!("weft-sum-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        let sum = sha256(&file);
        fs::remove_file(&file).unwrap();
        // FIPS 180-4's example.
        assert_eq!(sum.unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
