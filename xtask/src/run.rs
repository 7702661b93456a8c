//! Running programs and saying so.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A cargo command in the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // What `cargo run` sets for this process must not leak into the builds it starts.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_BIN_NAME" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end; an error names it and its exit status.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// How many tests passed and failed, and which.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Names of tests that were run one by one, with whether they passed.
    pub(crate) verdicts: Vec<(String, bool)>,
}

impl Counts {
    /// Takes a line that a test program printed.
    pub(crate) fn note(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
        } else if let Some((name, verdict)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... "))
            && !verdict.starts_with("ignored")
        {
            self.verdicts.push((name.to_owned(), verdict == "ok"));
        }
    }
}

/// Runs `cargo test`, passes on what it prints, and adds up its result lines.
pub(crate) fn run_tests(command: &mut Command, counts: &mut Counts) -> Result<()> {
    let shown = show(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start {shown}"))?;
    let output = child.stdout.take().context("the output of cargo test")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("read the output of cargo test")?;
        println!("{line}");
        counts.note(&line);
    }
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// The number that stands before a word.
fn number_before(text: &str, word: &str) -> usize {
    text.find(word).and_then(|end| text[..end].rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn show(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| w.to_string_lossy())
        .collect();
    words.join(" ")
}

/// Whether a program is on the PATH.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Fails unless this is root: namespaces, mounts and nftables need it.
pub(crate) fn need_root() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")).and_then(|l| l.split_whitespace().nth(1));
    if uid != Some("0") {
        bail!("root is needed to make network namespaces: run it again as root, for example with sudo -E");
    }
    Ok(())
}

/// Named steps with the time that each took, printed as a table at the end.
#[derive(Default)]
pub(crate) struct Steps(Vec<(String, Duration)>);

impl Steps {
    /// Runs one step under a headline.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n=== {name}");
        let start = Instant::now();
        let outcome = work().with_context(|| format!("step '{name}'"));
        self.0.push((name.to_owned(), start.elapsed()));
        outcome
    }

    /// Prints what each step took.
    pub(crate) fn print(&self) {
        println!("\n=== time");
        for (name, took) in &self.0 {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        println!("{:>8.1} s  in all", self.0.iter().map(|(_, t)| t.as_secs_f64()).sum::<f64>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_what_was_ignored_has_no_verdict() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test a::d ... ignored, needs another kernel",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.00s",
        ] {
            counts.note(line);
        }
        assert_eq!((counts.passed, counts.failed), (3, 1));
        assert_eq!(counts.verdicts, [("a::b".to_owned(), true), ("a::c".to_owned(), false)]);
    }
}
