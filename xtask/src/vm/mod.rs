//! `cargo xtask test vm`: checks that need a kernel with more in it than the machine's own.
//!
//! The machine that builds may run a kernel without IPVS, ESP, SCTP or netem, and without modules. So the checks of
//! `tests/e2e/tests/vm` run inside a virtual machine with a Debian kernel: software emulation, no disk, everything in
//! an initial file system. They are ordinary tests; `cargo test` starts them through a runner, which is this program
//! as `cargo xtask vm-run TEST [ARGUMENTS]`. A new check is a new `#[test] #[ignore]` function there.
//!
//! Its hosts are network namespaces inside the one virtual machine. Speed there says nothing.

mod boot;
mod cpio;
mod image;
mod kernel;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{Counts, cargo, run_tests, target};

/// Set to a part of a check's name to run only what contains it.
const ONLY: &str = "WEFT_VM_ONLY";

/// Where the kernel and the pieces of the initial file system are kept between runs.
fn cache() -> PathBuf {
    target().join("vm")
}

/// Tests of `tests/e2e/tests/hosts` that run there as well: the plan of the data plane on another kernel.
const HOSTS_TESTS: &[&str] =
    &["dataplane::what_someone_deleted_is_repaired", "dataplane::vxlan_of_a_stranger_is_dropped_and_counted"];

/// Run only by name: by IPVS a task cannot reach its own service when the turn is its own (`docs/features.md`, row D2).
const OPEN: &[&str] = &["--skip", "ipvs::"];

/// Runs all checks in the virtual machine and adds up their results.
pub(crate) fn checks(counts: &mut Counts) -> Result<()> {
    crate::demo::build_daemon()?;
    if let Some(part) = std::env::var_os(ONLY) {
        return inside("vm", &[&part.to_string_lossy()], counts);
    }
    inside("vm", OPEN, counts)?;
    inside("hosts", &[&["--exact"], HOSTS_TESTS].concat(), counts)
}

/// Runs one test program of the end-to-end tests in the virtual machine.
fn inside(test: &str, arguments: &[&str], counts: &mut Counts) -> Result<()> {
    let runner = std::env::current_exe().context("this program's own path")?;
    // For every target: there is only one, and its triple need not be known here.
    let runner = format!("target.'cfg(all())'.runner=[{:?}, \"vm-run\"]", runner.display().to_string());
    let mut command = cargo(&["test", "--package", "weft-e2e", "--test", test, "--config", &runner, "--"]);
    run_tests(command.args(["--include-ignored", "--test-threads=1"]).args(arguments), counts)
}

/// `cargo xtask vm-run TEST [ARGUMENTS]`: boots the machine with a test program in it and ends as that does.
pub(crate) fn run_inside(words: &[&str]) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else {
        bail!("vm-run needs a test program and its arguments; it is the runner of cargo xtask test vm")
    };
    let kernel = kernel::Kernel::get(&cache())?;
    let image = image::build(&cache(), &kernel, Path::new(program), arguments)?;
    match boot::boot(&cache(), &kernel, &image)? {
        0 => Ok(()),
        code => bail!("{program} ended with {code} in the virtual machine"),
    }
}
