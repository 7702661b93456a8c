//! `cargo xtask test vm`: checks that need a kernel with more in it than the machine's own.
//!
//! The machine that builds may run a kernel without IPVS, ESP, SCTP or netem, and without modules. So the checks of
//! `tests/e2e/tests/vm` run inside a virtual machine with a Debian kernel: software emulation, no disk, everything in an
//! initial file system. They are ordinary tests, and share one boot. A new check is a new `#[test] #[ignore]`
//! function there. Those of `tests/e2e/tests/interop` that need Docker's own load balancer have a boot of their own, for one
//! pair of engines; all pairs run by name, and in `cargo xtask soak interop`.
//!
//! Its hosts are network namespaces inside the one virtual machine. Speed there says nothing.

mod boot;
mod cpio;
mod image;
mod kernel;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::boot::Boot;
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
const BALANCE: &str = "balance";
/// Tests of `weft-kernel` for the fast path, on a kernel without tcx; the others are run by name.
const FAST_PATH: &str = "fast_path";
const FAST_PATH_TESTS: &[&str] = &["filters_do_the_same_where_there_is_no_tcx"];
/// Tests of `weft-kernel` for services at connect time, run by name.
const CONNECT: &str = "connect";
/// Tests of `weft-kernel` for the kernel's ESP.
const XFRM: &str = "xfrm";
/// Tests of `tests/e2e/tests/interop`.
const INTEROP: &str = "interop";
/// The one of them that runs every time: a Docker node in Weft's swarm, whose keys rotate often.
const ACROSS: &str = "across::services_lead_across::manager_weft_worker_docker";

/// Time for everything in a run of all checks.
const DEADLINE: Duration = Duration::from_secs(1200);
/// The same where only some are run, which may be slow ones: Docker's engine takes minutes to get ready there.
const LONG: Duration = Duration::from_secs(2400);

/// Runs all checks in the virtual machine and adds up their results.
pub(crate) fn checks(counts: &mut Counts) -> Result<()> {
    crate::demo::build_daemon()?;
    let Some(part) = std::env::var_os(ONLY) else {
        let [hosts, fast] = [HOSTS_TESTS, FAST_PATH_TESTS].map(|names| [&["--exact"], names].concat());
        let before = counts.verdicts.len();
        let all = [(XFRM, &[][..]), (FAST_PATH, &fast), ("vm", BY_NAME), ("hosts", &hosts)];
        boot(&all, DEADLINE, counts)?;
        boot(&[(INTEROP, &["--exact", ACROSS])], DEADLINE, counts)?;
        return need_run(&[HOSTS_TESTS, FAST_PATH_TESTS, &[ACROSS]].concat(), &counts.verdicts[before..]);
    };
    let part = part.to_string_lossy();
    let only = [&*part];
    let before = counts.verdicts.len();
    boot(&["vm", XFRM, FAST_PATH, CONNECT, BALANCE, INTEROP].map(|test| (test, &only[..])), LONG, counts)?;
    if counts.verdicts.len() == before {
        bail!("no check's name contains {ONLY}={part}");
    }
    Ok(())
}

/// To a test program a name that no test has is no mistake: it runs nothing, and passes.
fn need_run(names: &[&str], verdicts: &[(String, bool)]) -> Result<()> {
    match names.iter().find(|name| !verdicts.iter().any(|(ran, _)| ran == *name)) {
        Some(name) => {
            bail!("no check is named {name} any more: name the one that shall run in xtask/src/vm/mod.rs")
        }
        None => Ok(()),
    }
}

/// All cells of the scenarios of both engines that need that kernel or show more on it.
pub(crate) fn interop(counts: &mut Counts) -> Result<()> {
    crate::demo::build_daemon()?;
    boot(&[(INTEROP, &["across::", "mesh::"])], LONG, counts)
}

/// Boots the machine once and runs these programs of the end-to-end tests in it, each with its arguments.
fn boot(tests: &[(&str, &[&str])], deadline: Duration, counts: &mut Counts) -> Result<()> {
    let mut checks = Vec::new();
    for (test, arguments) in tests {
        let always = ["--include-ignored", "--test-threads=1"];
        let arguments = always.iter().chain(*arguments).map(|word| (*word).to_owned()).collect();
        checks.push(Check { program: built(test)?, arguments, docker: *test == INTEROP });
    }
    let kernel = &kernel::Kernel::get(&cache())?;
    let run = Run::new(&cache())?;
    image::build(&cache(), kernel, &checks, &run.image())?;
    let mut told = |line: &str| {
        println!("{line}");
        counts.note(line);
    };
    let (image, console) = (&run.image(), &run.console());
    let docker = checks.iter().any(|check| check.docker);
    match boot::boot(&Boot { kernel, image, console, docker, deadline }, &mut told)? {
        0 => Ok(()),
        code => bail!("a test program ended with {code} in the virtual machine"),
    }
}

/// Builds a test program, with what belongs to it, and returns its path.
fn built(test: &str) -> Result<PathBuf> {
    let format = "--message-format=json-render-diagnostics";
    let package =
        if [BALANCE, CONNECT, FAST_PATH, XFRM].contains(&test) { "weft-kernel" } else { "weft-e2e" };
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
    fn a_check_that_was_renamed_is_missed() {
        let ran = [("a::b".to_owned(), true), ("a::c".to_owned(), true)];
        assert!(need_run(&["a::c", "a::b"], &ran).is_ok());
        assert!(need_run(&["a::b", "a::d"], &ran).unwrap_err().to_string().contains("a::d"));
    }

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
