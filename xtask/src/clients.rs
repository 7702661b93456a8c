//! Programs that drive an engine by its API, which the tests run unmodified: Compose 2 from a later suite of Debian's,
//! SDKs from their registries, pinned by the lists beside the tests. (Compose 1 is a package of this suite.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::pinned::Package;
use crate::run::{root, run, target};

const COMPOSE: Package = Package {
    suite: "trixie",
    name: "docker-compose:amd64",
    version: "2.26.1-4",
    sha256: "47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea",
};

/// Where they are, by the variables that the tests read.
pub(crate) fn environment() -> Result<[(&'static str, PathBuf); 3]> {
    let compose = COMPOSE.unpacked().map_err(anyhow::Error::from).context("get Compose 2")?;
    Ok([
        ("WEFT_TEST_COMPOSE_2", compose.join("usr/libexec/docker/cli-plugins/docker-compose")),
        ("WEFT_TEST_PYTHON", python()?),
        ("WEFT_TEST_NODE", node()?),
    ])
}

/// The folder with the packages of `python.txt`.
fn python() -> Result<PathBuf> {
    let list = lists().join("python.txt");
    fetched("python", &[&list], |dir| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--root-user-action", "ignore", "--only-binary", ":all:"]);
        run(pip.arg("--requirement").arg(&list).arg("--target").arg(dir))
    })
}

/// The folder with the packages of `package-lock.json`.
fn node() -> Result<PathBuf> {
    let lists = ["package.json", "package-lock.json"].map(|name| lists().join(name));
    let dir = fetched("node", &[&lists[0], &lists[1]], |dir| {
        for list in &lists {
            fs::copy(list, dir.join(list.file_name().unwrap_or_default()))
                .with_context(|| format!("copy {}", list.display()))?;
        }
        let mut npm = Command::new("npm");
        run(npm.args(["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(dir))
    })?;
    Ok(dir.join("node_modules"))
}

fn lists() -> PathBuf {
    root().join("tests/e2e/tests/clients")
}

/// A folder below the target folder that `fetch` fills, again once one of the lists has changed.
fn fetched(name: &str, lists: &[&Path], fetch: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = target().join("peers/clients").join(name);
    let mut wanted = String::new();
    for list in lists {
        wanted += &fs::read_to_string(list).with_context(|| format!("read {}", list.display()))?;
    }
    let mark = dir.join(".fetched");
    if fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(dir);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    println!("fetching clients for {name}");
    fetch(&dir).with_context(|| format!("get the clients for {name}"))?;
    fs::write(&mark, wanted).with_context(|| format!("write {}", mark.display()))?;
    Ok(dir)
}
