//! Command lines and what comes of them.

use std::process::{Command, Stdio};

/// Seconds after which a command counts as hanging.
const DEADLINE: &str = "90";

/// The words of a command line: a text split at spaces, or a list taken as it is.
pub trait Words {
    /// The words.
    fn words(&self) -> Vec<String>;
}

impl Words for &str {
    fn words(&self) -> Vec<String> {
        self.split_whitespace().map(str::to_owned).collect()
    }
}

impl Words for String {
    fn words(&self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<const N: usize> Words for [&str; N] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|w| (*w).to_owned()).collect()
    }
}

impl Words for &[&str] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|w| (*w).to_owned()).collect()
    }
}

impl Words for Vec<String> {
    fn words(&self) -> Vec<String> {
        self.clone()
    }
}

/// A command that ended with an error.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The command line.
    pub command: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (exit {:?}): {}{}", self.command, self.code, self.stdout, self.stderr)
    }
}

impl std::error::Error for Failed {}

/// What a command that must fail says.
///
/// # Panics
/// When it succeeds.
pub fn refusal(outcome: Result<String, Failed>) -> String {
    match outcome {
        Ok(stdout) => panic!("this must be refused; it printed:\n{stdout}"),
        Err(failed) => failed.stderr,
    }
}

/// Runs a program with a deadline; returns its standard output without the last line break.
pub(crate) fn run(
    program: &str,
    args: &[String],
    prepare: impl FnOnce(&mut Command),
) -> Result<String, Failed> {
    let shown = std::iter::once(program.to_owned()).chain(args.iter().cloned()).collect::<Vec<_>>().join(" ");
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", DEADLINE, program]).args(args).stdin(Stdio::null());
    prepare(&mut command);
    let failed = |code, stdout, stderr| Failed { command: shown.clone(), code, stdout, stderr };
    let output = command.output().map_err(|e| failed(None, String::new(), e.to_string()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() { Ok(stdout) } else { Err(failed(output.status.code(), stdout, stderr)) }
}
