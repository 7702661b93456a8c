//! Waiting for conditions instead of sleeping for fixed times.

use std::time::{Duration, Instant};

use crate::LabError;

/// Time between two looks at a condition.
const STEP: Duration = Duration::from_millis(20);
/// Set to a number by which all deadlines are multiplied: for machines that are slow by nature, such as emulated ones.
const PATIENCE: &str = "WEFT_LAB_PATIENCE";

/// Waits until `condition` holds; after `deadline` it is an error that names `what`.
pub fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> Result<(), LabError> {
    let deadline = patient(deadline);
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(LabError::Deadline { what: what.to_owned(), deadline, detail: String::new() });
        }
        pause(STEP);
    }
}

/// As [`until`], for tests: panics with the last reason why the condition does not hold.
///
/// # Panics
/// When the deadline passes.
pub fn eventually<T, E: std::fmt::Display>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = patient(deadline);
    let end = Instant::now() + deadline;
    loop {
        let began = Instant::now();
        match attempt() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= end => {
                panic!("{what} did not happen within {deadline:?}: {reason}")
            }
            Err(_) if patience().is_some() => pause(STEP.max(began.elapsed())),
            Err(_) => pause(STEP),
        }
    }
}

/// A limit of time on this machine: some multiple of what holds on others where the machine is an emulated one.
pub fn patient(deadline: Duration) -> Duration {
    deadline * patience().unwrap_or(1)
}

/// The number, on a machine that is slow: there looks must not take the time in which the condition comes about.
fn patience() -> Option<u32> {
    std::env::var(PATIENCE).ok()?.parse().ok()
}

#[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition is the point here")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
