//! `weftd`: configuration, wiring, life and end of the daemon's process.

mod config;
mod flags;
mod listeners;
mod logging;
mod pidfile;

use std::process::ExitCode;

/// Runs the daemon until it is told to stop.
pub(crate) fn run(args: Vec<String>) -> ExitCode {
    let flags = match flags::parse(args) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let _ = config::load(flags);
    ExitCode::FAILURE
}
