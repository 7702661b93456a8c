//! `version`, `info`, `system …`, and what all verbs share.

use clap::Subcommand;
use serde_json::{Value, json};

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::events::Events;
use super::inspect::{self, Inspect};
use super::prune::{self, PruneAll};
use super::usage::DiskUsage;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the versions of client and daemon
    Version {
        /// json, or a template of Go's, for example '{{.Server.Version}}'
        #[arg(short, long, value_name = "format")]
        format: Option<String>,
    },
    /// Show what the daemon says of itself
    Info {
        /// json, or a template of Go's
        #[arg(short, long, value_name = "format")]
        format: Option<String>,
    },
    /// Show what happens as it happens
    Events(Events),
    /// Show containers, images, networks, volumes, services, tasks, nodes, secrets or configs as JSON
    Inspect(Inspect),
}

/// `system …`.
#[derive(Debug, Subcommand)]
pub(super) enum Group {
    /// Show what images, containers and volumes take of the disk
    Df(DiskUsage),
    /// Show what happens as it happens
    Events(Events),
    /// Show what the daemon says of itself
    Info {
        /// json, or a template of Go's
        #[arg(short, long, value_name = "format")]
        format: Option<String>,
    },
    /// Remove what nobody uses
    Prune(PruneAll),
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Version { format } => version(daemon, format.as_deref()).await,
        Verb::Info { format } => info(daemon, format.as_deref()).await,
        Verb::Events(events) => events.execute(daemon).await,
        Verb::Inspect(inspect) => inspect.execute(daemon).await,
    }
}

pub(super) async fn execute_group(daemon: &Daemon, verb: Group) -> Outcome {
    match verb {
        Group::Df(usage) => usage.execute(daemon).await,
        Group::Events(events) => events.execute(daemon).await,
        Group::Info { format } => info(daemon, format.as_deref()).await,
        Group::Prune(prune) => prune::everything(daemon, &prune).await,
    }
}

async fn version(daemon: &Daemon, format: Option<&str>) -> Outcome {
    if let Some(format) = format {
        let server = daemon.json(Call::get("/version")).await?;
        let client = json!({"Version": env!("CARGO_PKG_VERSION"), "Os": std::env::consts::OS, "Arch": std::env::consts::ARCH});
        return inspect::one(&json!({"Client": client, "Server": server}), format);
    }
    println!("Client:\n Version:      {}", env!("CARGO_PKG_VERSION"));
    let server = daemon.json(Call::get("/version")).await?;
    println!("\nServer:");
    for (title, key) in [
        ("Version", "Version"),
        ("API version", "ApiVersion"),
        ("Minimum API", "MinAPIVersion"),
        ("OS/Arch", "Os"),
        ("Kernel", "KernelVersion"),
    ] {
        println!(" {:14}{}", format!("{title}:"), text(&server[key]));
    }
    Ok(0)
}

async fn info(daemon: &Daemon, format: Option<&str>) -> Outcome {
    let info = daemon.json(Call::get("/info")).await?;
    if let Some(format) = format {
        return inspect::one(&info, format);
    }
    let line = |title: &str, value: &Value| println!("{title}: {}", text(value));
    line("Name", &info["Name"]);
    line("Server Version", &info["ServerVersion"]);
    line("Containers", &info["Containers"]);
    line(" Running", &info["ContainersRunning"]);
    line(" Stopped", &info["ContainersStopped"]);
    line("Images", &info["Images"]);
    line("Storage Driver", &info["Driver"]);
    line("Cgroup Version", &info["CgroupVersion"]);
    line("Kernel Version", &info["KernelVersion"]);
    line("Data Root", &info["DockerRootDir"]);
    line("Live Restore Enabled", &info["LiveRestoreEnabled"]);
    swarm_info(&info["Swarm"]);
    for label in info["Labels"].as_array().into_iter().flatten() {
        println!("Label: {}", text(label));
    }
    for warning in info["Warnings"].as_array().into_iter().flatten() {
        eprintln!("{}", text(warning));
    }
    Ok(0)
}

fn swarm_info(swarm: &Value) {
    println!("Swarm: {}", text(&swarm["LocalNodeState"]));
    if swarm["NodeID"].as_str().is_none_or(str::is_empty) {
        return;
    }
    println!(" NodeID: {}", text(&swarm["NodeID"]));
    println!(" Is Manager: {}", text(&swarm["ControlAvailable"]));
    println!(" Node Address: {}", text(&swarm["NodeAddr"]));
    for manager in swarm["RemoteManagers"].as_array().into_iter().flatten() {
        println!(" Manager: {}", text(&manager["Addr"]));
    }
}

/// A JSON value as it reads best in a line: strings without quotes.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Prints objects of one kind for people, each by its own call.
pub(super) async fn print_all(
    daemon: &Daemon,
    names: &[String],
    call: impl Fn(&str) -> Call,
    show: impl Fn(&Value) -> String,
) -> Outcome {
    let mut failed = 0;
    for name in names {
        match daemon.json(call(&escape(name))).await {
            Ok(object) => print!("{}", show(&object)),
            Err(error @ ClientError::Daemon { .. }) => {
                eprintln!("{error}");
                failed = 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

/// Makes the same call for each name; prints each name that it worked for and goes on after errors.
pub(super) async fn for_each(daemon: &Daemon, names: &[String], call: impl Fn(&str) -> Call) -> Outcome {
    let mut failed = 0;
    for name in names {
        match daemon.json(call(&escape(name))).await {
            Ok(_) => println!("{name}"),
            Err(error @ ClientError::Daemon { .. }) => {
                eprintln!("{error}");
                failed = 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}
