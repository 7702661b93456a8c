//! One line per step, with how long it took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Column in which details of a step stand.
const INDENT: &str = "           ";

/// The steps so far.
#[derive(Debug)]
pub(super) struct Steps {
    start: Instant,
}

impl Steps {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Runs a step and prints its line; the text that comes with its result is printed below.
    pub(super) fn step<T>(
        &mut self,
        headline: &str,
        work: impl FnOnce() -> Result<(T, Option<String>)>,
    ) -> Result<T> {
        let start = Instant::now();
        let outcome = work();
        let mark = if outcome.is_ok() { ' ' } else { '!' };
        println!("{mark} {}  {headline}", seconds(start.elapsed()));
        let (value, detail) = outcome.with_context(|| format!("step '{headline}' failed"))?;
        for line in detail.iter().flat_map(|d| d.lines()).filter(|l| !l.is_empty()) {
            println!("{INDENT}{line}");
        }
        Ok(value)
    }

    /// Time since the first step.
    pub(super) fn total(&self) -> String {
        seconds(self.start.elapsed())
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:5.2} s", duration.as_secs_f64())
}
