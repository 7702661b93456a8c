//! Packages of Debian's other suites, unpacked below the target folder: programs that tests run beside, and that this
//! machine's suite does not have or would start as a service.
//!
//! Each is pinned by version and checksum, so that a result stands for the same program wherever it is repeated. What
//! such a program needs is little: this machine's libraries will do.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{run, target};

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A package of Debian's, and what its file must be.
pub(crate) struct Package {
    pub(crate) suite: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Of the file, in hexadecimal digits.
    pub(crate) sha256: &'static str,
}

/// Why a package is not there.
pub(crate) enum Problem {
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

impl From<Problem> for anyhow::Error {
    fn from(problem: Problem) -> Self {
        let (Problem::Missing(error) | Problem::Changed(error)) = problem;
        error
    }
}

impl Package {
    /// The folder with its files, fetched when first needed.
    pub(crate) fn unpacked(&self) -> Result<PathBuf, Problem> {
        let dir = target().join("peers").join(self.folder());
        if !dir.exists() {
            let partial = dir.with_extension("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
            }
            let file = self.fetch(&partial.join("apt"))?;
            self.verify(&sha256(&file)?).map_err(Problem::Changed)?;
            run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&partial))?;
            fs::remove_dir_all(partial.join("apt")).context("remove the package")?;
            fs::rename(&partial, &dir).with_context(|| format!("rename to {}", dir.display()))?;
        }
        Ok(dir)
    }

    fn folder(&self) -> String {
        let name = self.name.split(':').next().unwrap_or(self.name);
        format!("{name}-{}-{}", self.suite, self.version)
    }

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

/// The PATH with these folders first.
pub(crate) fn path_with(folders: impl IntoIterator<Item = PathBuf>) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = folders.into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(dirs).context("a PATH with the fetched programs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_checksum_is_an_error_that_names_both() {
        let package = Package {
            suite: "sid",
            name: "some:amd64",
            version: "1.0-1",
            sha256: "3a9445d4560ad6de1c375756b2a17d97",
        };
        assert_eq!(package.folder(), "some-sid-1.0-1");
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
