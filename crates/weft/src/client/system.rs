//! `version`, `info`, `inspect`.

use clap::Subcommand;
use serde_json::Value;

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the versions of client and daemon
    Version,
    /// Show what the daemon says of itself
    Info,
    /// Show containers, images, networks, services, tasks or nodes as JSON
    Inspect {
        /// Names or ids
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// Where an object of any kind may be found, in docker's order.
const KINDS: &[(&str, &str)] = &[
    ("/containers/", "/json"),
    ("/images/", "/json"),
    ("/networks/", ""),
    ("/services/", ""),
    ("/tasks/", ""),
    ("/nodes/", ""),
    ("/secrets/", ""),
    ("/configs/", ""),
];

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Version => version(daemon).await,
        Verb::Info => info(daemon).await,
        Verb::Inspect { names } => inspect(daemon, &names).await,
    }
}

async fn version(daemon: &Daemon) -> Outcome {
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

async fn info(daemon: &Daemon) -> Outcome {
    let info = daemon.json(Call::get("/info")).await?;
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

async fn inspect(daemon: &Daemon, names: &[String]) -> Outcome {
    let mut found = Vec::new();
    let mut missing = 0;
    for name in names {
        match find(daemon, name).await? {
            Some(object) => found.push(object),
            None => {
                eprintln!("error: no such object: {name}");
                missing = 1;
            }
        }
    }
    println!("{}", serde_json::to_string_pretty(&found)?);
    Ok(missing)
}

async fn find(daemon: &Daemon, name: &str) -> Result<Option<Value>, ClientError> {
    for (before, after) in KINDS {
        match daemon.json(Call::get(format!("{before}{}{after}", escape(name)))).await {
            Ok(object) => return Ok(Some(object)),
            // 503: not a swarm manager, which means there are no nodes to be found here.
            Err(ClientError::Daemon { status: 404 | 503, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
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

/// Prints objects of one kind as a JSON list, each by its own call.
pub(super) async fn inspect_all(daemon: &Daemon, prefix: &str, suffix: &str, names: &[String]) -> Outcome {
    let mut found = Vec::new();
    let mut failed = 0;
    for name in names {
        match daemon.json(Call::get(format!("{prefix}{}{suffix}", escape(name)))).await {
            Ok(object) => found.push(object),
            Err(error @ ClientError::Daemon { .. }) => {
                eprintln!("{error}");
                failed = 1;
            }
            Err(error) => return Err(error),
        }
    }
    println!("{}", serde_json::to_string_pretty(&found)?);
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
