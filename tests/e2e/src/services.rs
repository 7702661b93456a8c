//! What many tests do with services.
//!
//! Every step panics when the service does not get there.

#![allow(clippy::missing_panics_doc, reason = "said above for all")]

use std::time::Duration;

use weft_lab::{LabSpec, eventually};

use crate::{Failed, Hosts};

/// Time for a service to get where it shall be: images are there already.
pub const CONVERGED: Duration = Duration::from_secs(30);

/// So many hosts of which the first manages.
pub fn cluster(name: &str, hosts: usize) -> Hosts {
    let hosts = Hosts::up(LabSpec::bridged(name, hosts));
    hosts.swarm();
    hosts
}

/// Creates a service of containers that do nothing; `flags` stand before the image.
pub fn idle(hosts: &Hosts, name: &str, flags: &str) {
    let line = format!(
        "service create -d --name {name} --stop-grace-period 1s --update-monitor 500ms {flags} busybox sleep 100000"
    );
    hosts.docker("h1", line).expect("a command");
}

/// Waits until `docker service ls` shows these replicas, and none of them is about to go.
pub fn converged(hosts: &Hosts, service: &str, replicas: &str, deadline: Duration) {
    eventually(&format!("{service} at {replicas}"), deadline, || {
        let format = "{{.Name}} {{.Replicas}}";
        let list = hosts.docker("h1", ["service", "ls", "--format", format]).map_err(|e| e.to_string())?;
        let tasks = running(hosts, service, "{{.CurrentState}}");
        let up = tasks.iter().filter(|state| state.starts_with("Running")).count();
        let is_listed = list.lines().any(|line| line == format!("{service} {replicas}"));
        if is_listed && replicas.starts_with(&format!("{up}/")) {
            return Ok(());
        }
        let ps = hosts.docker("h1", format!("service ps --no-trunc {service}")).unwrap_or_default();
        Err(format!("{list}\n{ps}"))
    });
}

/// One line for each task that shall run, in a Go template's form.
pub fn running(hosts: &Hosts, service: &str, format: &str) -> Vec<String> {
    running_by(hosts, "h1", service, format).expect("a command")
}

/// The same by the word of another manager.
pub fn running_by(hosts: &Hosts, by: &str, service: &str, format: &str) -> Result<Vec<String>, Failed> {
    let filter = "desired-state=running";
    let args = ["service", "ps", "--no-trunc", "--filter", filter, "--format", format, service];
    let mut lines: Vec<String> = hosts.docker(by, args)?.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Ok(lines)
}

/// Waits until the tasks that shall run look like this.
pub fn tasks_are(hosts: &Hosts, service: &str, format: &str, want: &[&str], deadline: Duration) {
    eventually(&format!("tasks of {service}"), deadline, || {
        let have = running(hosts, service, format);
        if have == want { Ok(()) } else { Err(format!("want {want:?}, have {have:?}")) }
    });
}

/// A value of a service by a Go template. Plain `docker inspect` also takes a short name for the beginning of an id.
pub fn inspect(hosts: &Hosts, service: &str, template: &str) -> Result<String, Failed> {
    hosts.docker("h1", ["service", "inspect", "--format", template, service])
}

/// Waits until an update or rollback has come to this state.
pub fn updated(hosts: &Hosts, service: &str, state: &str) {
    eventually(&format!("update of {service} {state}"), CONVERGED, || {
        let have = inspect(hosts, service, "{{json .UpdateStatus}}").map_err(|e| e.to_string())?;
        if have.contains(&format!("\"State\":\"{state}\"")) { Ok(()) } else { Err(have) }
    });
}

/// Host and container of a service's only task, once it runs.
pub fn container(hosts: &Hosts, service: &str) -> (String, String) {
    converged(hosts, service, "1/1", CONVERGED);
    eventually(&format!("a container of {service}"), CONVERGED, || container_now(hosts, service))
}

/// The same at this moment: there may be none, because one task failed just now and the next is not there yet.
fn container_now(hosts: &Hosts, service: &str) -> Result<(String, String), String> {
    let lines = running(hosts, service, "{{.Node}} {{.ID}}");
    let [line] = lines.as_slice() else { return Err(format!("tasks: {lines:?}")) };
    let (host, task) = line.split_once(' ').ok_or_else(|| format!("no node yet: {line}"))?;
    let status = "{{with .Status.ContainerStatus}}{{.ContainerID}}{{end}}";
    let id = hosts.inspect("h1", task, status).map_err(|e| e.to_string())?;
    if id.is_empty() { Err(format!("no container yet: {line}")) } else { Ok((host.to_owned(), id)) }
}
