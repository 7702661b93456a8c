//! `cargo xtask test vm`: checks that need a kernel with more in it than the machine's own.
//!
//! The machine that builds may run a kernel without IPVS, ESP, SCTP or netem, and without modules. So the checks of
//! `tests/e2e/tests/vm` run inside a virtual machine with a Debian kernel: software emulation, no disk, everything in an
//! initial file system. They are ordinary tests; all of them share one boot. A new check is a new `#[test] #[ignore]`
//! function there. Those of `tests/e2e/tests/interop` that need Docker's own load balancer run there by name, and in
//! `cargo xtask soak interop`.
//!
//! Its hosts are network namespaces inside the one virtual machine. Speed there says nothing.

mod boot;
mod cpio;
mod image;
mod kernel;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use self::image::Check;
use crate::run::{Counts, cargo, target};

/// Set to a part of a check's name to run only what contains it.
const ONLY: &str = "WEFT_VM_ONLY";

/// Where the kernel and the pieces of the initial file system are kept between runs.
fn cache() -> PathBuf {
    target().join("vm")
}

/// Tests of `tests/e2e/tests/hosts` that run there as well: the plan of the data plane on another kernel.
const HOSTS_TESTS: &[&str] =
    &["dataplane::what_someone_deleted_is_repaired", "dataplane::vxlan_of_a_stranger_is_dropped_and_counted"];

/// Run only by name, because it takes minutes there: the whole scenario of services by IPVS.
const BY_NAME: &[&str] = &["--skip", "ipvs::"];
/// Tests of `weft-kernel`, run only by name for the same reason: they try every engine that the kernel has.
const KERNEL: &str = "balance";
/// Tests of `tests/e2e/tests/interop`.
const INTEROP: &str = "interop";

/// Runs all checks in the virtual machine and adds up their results.
pub(crate) fn checks(counts: &mut Counts) -> Result<()> {
    crate::demo::build_daemon()?;
    if let Some(part) = std::env::var_os(ONLY) {
        let part = part.to_string_lossy();
        return boot(&[("vm", &[&part]), (KERNEL, &[&part]), (INTEROP, &[&part])], counts);
    }
    boot(&[("vm", BY_NAME), ("hosts", &[&["--exact"], HOSTS_TESTS].concat())], counts)
}

/// All cells of the scenarios of both engines that need that kernel or show more on it.
pub(crate) fn interop(counts: &mut Counts) -> Result<()> {
    crate::demo::build_daemon()?;
    boot(&[(INTEROP, &["across::", "mesh::"])], counts)
}

/// Boots the machine once and runs these programs of the end-to-end tests in it, each with its arguments.
fn boot(tests: &[(&str, &[&str])], counts: &mut Counts) -> Result<()> {
    let mut checks = Vec::new();
    for (test, arguments) in tests {
        let always = ["--include-ignored", "--test-threads=1"];
        let arguments = always.iter().chain(*arguments).map(|word| (*word).to_owned()).collect();
        checks.push(Check { program: built(test)?, arguments, docker: *test == INTEROP });
    }
    let kernel = kernel::Kernel::get(&cache())?;
    let run = Run::new(&cache())?;
    image::build(&cache(), &kernel, &checks, &run.image())?;
    let mut told = |line: &str| {
        println!("{line}");
        counts.note(line);
    };
    match boot::boot(&run.console(), &kernel, &run.image(), &mut told)? {
        0 => Ok(()),
        code => bail!("a test program ended with {code} in the virtual machine"),
    }
}

/// Builds a test program, with what belongs to it, and returns its path.
fn built(test: &str) -> Result<PathBuf> {
    let format = "--message-format=json-render-diagnostics";
    let package = if test == KERNEL { "weft-kernel" } else { "weft-e2e" };
    let mut command = cargo(&["test", "--no-run", "--package", package, "--test", test, format]);
    let output = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).output().context("start cargo")?;
    if !output.status.success() {
        bail!("the test program '{test}' does not build");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    program_in(&text, test).with_context(|| format!("cargo names no test program '{test}'"))
}

/// The path of a test program in cargo's messages.
fn program_in(messages: &str, test: &str) -> Option<PathBuf> {
    let paths = messages.lines().filter_map(|line| line.split("\"executable\":\"").nth(1)?.split('"').next());
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    paths.map(PathBuf::from).find(|path| name(path).is_some_and(|n| n.starts_with(&format!("{test}-"))))
}

/// The folder of one run, so that several may go on at once; removed with this value.
struct Run(PathBuf);

impl Run {
    fn new(cache: &Path) -> Result<Self> {
        let dir = cache.join(format!("run-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self(dir))
    }

    fn image(&self) -> PathBuf {
        self.0.join("initrd")
    }

    fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A leftover costs room and nothing else.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_is_found_in_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","executable":"/t/debug/peer-echo","fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","executable":"/t/debug/deps/vm-0a1b","fresh":true}"#,
        );
        assert_eq!(program_in(messages, "vm"), Some(PathBuf::from("/t/debug/deps/vm-0a1b")));
        assert_eq!(program_in(messages, "hosts"), None);
    }
}
