//! Running programs of the machine.

use std::process::{Command, Stdio};

use crate::LabError;

/// Runs a program to its end and returns what it wrote to standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, LabError> {
    let program = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Start { program: program.clone(), source })?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let output_text = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(LabError::Failed { program, status: output.status.to_string(), output: output_text });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program and its arguments in one line.
pub(crate) fn show(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| w.to_string_lossy())
        .collect();
    words.join(" ")
}

/// Runs `ip` with words separated by spaces.
pub(crate) fn ip(words: &str) -> Result<String, LabError> {
    run(Command::new("ip").args(words.split_whitespace()))
}
