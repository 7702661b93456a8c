//! `weft lab …`: hosts on this machine, each with a daemon, to try things out and to break them.
//!
//! A lab lives on after the command that made it; `lab down` removes all of it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod demo;
mod remote;
mod up;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use weft_lab::{Daemon, Host, Lab};

use crate::client::table;

/// Hosts as network namespaces of this machine, each with its own weftd
#[derive(Debug, Parser)]
#[command(name = "lab", bin_name = "weft lab", disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The lab's name
    #[arg(long, default_value = "lab")]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build hosts and start a daemon on each
    Up(up::Up),
    /// List the labs of this machine
    Ls,
    /// Run a command on a host; DOCKER_HOST is set to the host's daemon
    Exec {
        #[command(flatten)]
        lab: Which,
        host: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Drop all packets between two hosts
    Cut {
        #[command(flatten)]
        lab: Which,
        a: String,
        b: String,
    },
    /// End all cuts
    Heal {
        #[command(flatten)]
        lab: Which,
    },
    /// Set the MTU of a host's link
    Mtu {
        #[command(flatten)]
        lab: Which,
        host: String,
        #[arg(value_parser = clap::value_parser!(u32).range(68..=65535))]
        bytes: u32,
    },
    /// Kill every process of a host, as a power failure would
    Kill {
        #[command(flatten)]
        lab: Which,
        host: String,
    },
    /// Start a host's daemon again
    Start {
        #[command(flatten)]
        lab: Which,
        host: String,
    },
    /// Remove a lab with all its containers and files
    Down {
        #[command(flatten)]
        lab: Which,
    },
    /// Two hosts behind a router, one overlay network: watch it work
    Demo {
        /// Leave it running at the end
        #[arg(long)]
        keep: bool,
    },
}

/// The grammar, for help and completion.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Runs one command; `args` starts with `lab`.
pub(crate) fn run(args: Vec<String>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match execute(cli.verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(options) => up::run(&options)?,
        Verb::Ls => list(),
        Verb::Exec { lab, host, command } => return exec(&lab.name, &host, &command),
        Verb::Cut { lab, a, b } => {
            open(&lab.name)?.cut(&a, &b)?;
            println!(
                "{a} and {b} are cut off from each other; end it with: weft lab heal{}",
                option(&lab.name)
            );
        }
        Verb::Heal { lab } => open(&lab.name)?.heal()?,
        Verb::Mtu { lab, host, bytes } => open(&lab.name)?.set_mtu(&host, bytes)?,
        Verb::Kill { lab, host } => {
            open(&lab.name)?.kill(&host)?;
            println!("{host} is dead; start its daemon with: weft lab start{} {host}", option(&lab.name));
        }
        Verb::Start { lab, host } => start(&lab.name, &host)?,
        Verb::Down { lab } => up::down(open(&lab.name)?)?,
        Verb::Demo { keep } => demo::run(keep)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn open(name: &str) -> Result<Lab> {
    Ok(Lab::open(name)?)
}

/// The option that names a lab, where it is needed.
fn option(name: &str) -> String {
    if name == "lab" { String::new() } else { format!(" --name {name}") }
}

fn list() {
    let mut rows = Vec::new();
    for name in Lab::names() {
        let Ok(lab) = Lab::open(&name) else {
            rows.push([&name, "?", "", "damaged; remove its folder"].map(str::to_owned).to_vec());
            continue;
        };
        for host in lab.hosts() {
            rows.push(vec![name.clone(), host.name.clone(), host.ipv4.to_string(), state(host)]);
        }
    }
    table::print(&["LAB", "HOST", "ADDRESS", "DAEMON"], &rows);
}

fn state(host: &Host) -> String {
    match Daemon::recorded(host, "weft") {
        Some(daemon) if daemon.is_alive() => daemon.url(),
        Some(_) => "dead".to_owned(),
        None => "none".to_owned(),
    }
}

fn exec(lab: &str, host: &str, command: &[String]) -> Result<ExitCode> {
    let lab = open(lab)?;
    let host = lab.host(host)?;
    let mut process = host.command(&command[0]);
    process.args(&command[1..]);
    if let Some(daemon) = Daemon::recorded(host, "weft") {
        process.env("DOCKER_HOST", daemon.url());
    }
    let status = process.status().with_context(|| format!("run {} on {}", command[0], host.name))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

fn start(lab: &str, host: &str) -> Result<()> {
    let lab = open(lab)?;
    let host = lab.host(host)?;
    if Daemon::recorded(host, "weft").is_some_and(|d| d.is_alive()) {
        anyhow::bail!("the daemon of {} is running", host.name);
    }
    let daemon = up::start_daemon(host)?;
    println!("{} listens at {}", host.name, daemon.url());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_command_line_for_a_host_is_taken_as_it_stands() {
        let cli = Cli::try_parse_from(["lab", "exec", "--name", "x", "h1", "--", "ping", "-c", "1"]).unwrap();
        let Verb::Exec { lab, host, command } = cli.verb else { panic!("{cli:?}") };
        assert_eq!((lab.name.as_str(), host.as_str()), ("x", "h1"));
        assert_eq!(command, ["ping", "-c", "1"]);
    }
}
