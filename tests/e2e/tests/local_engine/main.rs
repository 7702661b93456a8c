//! One host, the unmodified `docker` CLI: images, containers and their streams, local networks, the daemon's end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod control_groups;
mod files;
mod images;
mod leftovers;
mod lifecycle;
mod listeners;
mod macvlan;
mod modes;
mod networks;
mod publishing;
mod registries;
mod run_flags;
mod settings;
mod shared_settings;
mod stats;
mod streams;
mod system;
mod volumes;
mod websocket;

use std::process::Command;
use std::time::Duration;

use weft_e2e::{Failed, Hosts};
use weft_lab::{LabSpec, eventually};

/// Time in which what was asked for is seen.
const SOON: Duration = Duration::from_secs(10);

fn up(name: &str) -> Hosts {
    Hosts::up(LabSpec::bridged(name, 1))
}

fn docker<const N: usize>(hosts: &Hosts, args: [&str; N]) -> String {
    hosts.docker("h1", args).unwrap()
}

/// A shell line in which `docker` speaks to the host's daemon; standard output, and the exit code.
fn shell(hosts: &Hosts, line: &str) -> (String, Option<i32>) {
    let output = Command::new("timeout")
        .args(["-s", "KILL", "60", "sh", "-c", line])
        .env("DOCKER_HOST", hosts.daemon("h1").url())
        .env("DOCKER_CONFIG", &hosts.host("h1").dir)
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

/// Waits until the container `c1` has written a line, for example that its signal handlers stand.
fn wait_for_log(hosts: &Hosts, line: &str) {
    eventually("the container's word", SOON, || match hosts.docker("h1", "logs c1") {
        Ok(log) if log.lines().any(|l| l == line) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn exit_code(outcome: Result<String, Failed>) -> Option<i32> {
    outcome.map_or_else(|failed| failed.code, |_| Some(0))
}
