//! One binary, several lives: daemon, the daemon's own processes, the lab, and otherwise the client.

mod client;
mod daemon;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let program = args.first().and_then(|a| a.rsplit('/').next()).unwrap_or_default();
    if program == "weftd" {
        return daemon::run(args);
    }
    match args.get(1).map(String::as_str) {
        Some("daemon") => daemon::run(without_verb(args)),
        _ => client::run(args, Vec::new()),
    }
}

/// `weft daemon --flag` reads as `weftd --flag`.
fn without_verb(mut args: Vec<String>) -> Vec<String> {
    args.remove(1);
    args
}
