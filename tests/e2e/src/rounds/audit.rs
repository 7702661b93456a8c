//! What must hold when nothing disturbs the swarm any more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::model::Seen;
use crate::Hosts;
use crate::api::{get, list, text};

/// What services are, once all managers say the same, every service has exactly its tasks, every host exactly the
/// containers of its tasks, and no address two holders. An error says what is not so (yet).
pub(super) fn in_order(hosts: &Hosts, managers: &[&str]) -> Result<BTreeMap<String, Seen>, String> {
    nodes(hosts, managers)?;
    let by = managers[0];
    let services = list(hosts, by, "/services")?;
    for other in &managers[1..] {
        let theirs = list(hosts, other, "/services")?;
        if versions(&theirs) != versions(&services) {
            return Err(format!("{other} knows other services than {by}"));
        }
    }
    let tasks = list(hosts, by, "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D")?;
    let mut seen = BTreeMap::new();
    for service in &services {
        let (name, it) = of_service(service, &tasks)?;
        seen.insert(name, it);
    }
    let known: BTreeSet<&str> = services.iter().map(|service| text(service, "/ID")).collect();
    if let Some(orphan) = tasks.iter().find(|task| !known.contains(text(task, "/ServiceID"))) {
        return Err(format!("task {} has no service", text(orphan, "/ID")));
    }
    containers(hosts, by, &tasks)?;
    addresses(&services, &tasks)?;
    Ok(seen)
}

/// Every node is Ready, one manager leads, the others are reachable, by the word of each.
fn nodes(hosts: &Hosts, managers: &[&str]) -> Result<(), String> {
    for by in managers {
        let nodes = list(hosts, by, "/nodes")?;
        if let Some(node) = nodes.iter().find(|node| text(node, "/Status/State") != "ready") {
            return Err(format!(
                "{} is {} by the word of {by}: {}",
                text(node, "/Description/Hostname"),
                text(node, "/Status/State"),
                text(node, "/Status/Message")
            ));
        }
        let reachable =
            nodes.iter().filter(|node| text(node, "/ManagerStatus/Reachability") == "reachable").count();
        let leaders =
            nodes.iter().filter(|node| node.pointer("/ManagerStatus/Leader") == Some(&Value::Bool(true)));
        if (reachable, leaders.count()) != (managers.len(), 1) || nodes.len() != hosts.lab().hosts().len() {
            return Err(format!("{} nodes, {reachable} managers reachable by the word of {by}", nodes.len()));
        }
    }
    Ok(())
}

fn versions(services: &[Value]) -> BTreeSet<(&str, Option<u64>)> {
    let version = |it: &Value| it.pointer("/Version/Index").and_then(Value::as_u64);
    services.iter().map(|service| (text(service, "/ID"), version(service))).collect()
}

/// A service's name and what it is, if exactly its tasks run, all by its present specification.
fn of_service(service: &Value, tasks: &[Value]) -> Result<(String, Seen), String> {
    let name = text(service, "/Spec/Name").to_owned();
    let replicas = service.pointer("/Spec/Mode/Replicated/Replicas").and_then(Value::as_u64);
    let replicas = replicas.ok_or_else(|| format!("{name} has no replicas"))?;
    let version = text(service, "/Spec/Labels/version");
    let own: Vec<&Value> =
        tasks.iter().filter(|task| text(task, "/ServiceID") == text(service, "/ID")).collect();
    let slots: BTreeSet<u64> =
        own.iter().filter_map(|task| task.pointer("/Slot").and_then(Value::as_u64)).collect();
    let environment = format!("V={version}");
    let is_right = |task: &&&Value| {
        let env = task.pointer("/Spec/ContainerSpec/Env").and_then(Value::as_array);
        text(task, "/Status/State") == "running"
            && env.is_some_and(|env| env.iter().any(|one| one == environment.as_str()))
    };
    let right = own.iter().filter(is_right).count() as u64;
    if (own.len() as u64, slots.len() as u64, right) != (replicas, replicas, replicas) {
        let states: Vec<String> = own
            .iter()
            .map(|task| {
                format!(
                    "{} {} {} {}",
                    text(task, "/ID"),
                    text(task, "/NodeID"),
                    text(task, "/Status/State"),
                    text(task, "/Status/Err")
                )
            })
            .collect();
        return Err(format!(
            "{name}: {replicas} replicas of version {version} wished, {right} of {} run: {states:?}",
            own.len()
        ));
    }
    let version = version.parse().map_err(|_| format!("{name} has no version"))?;
    Ok((name, Seen { replicas, version }))
}

/// Every host runs the containers of its tasks and no others, each with one shim.
fn containers(hosts: &Hosts, by: &str, tasks: &[Value]) -> Result<(), String> {
    let nodes = list(hosts, by, "/nodes")?;
    for node in &nodes {
        let host = text(node, "/Description/Hostname");
        let wanted: BTreeSet<&str> = tasks
            .iter()
            .filter(|task| text(task, "/NodeID") == text(node, "/ID"))
            .map(|task| text(task, "/ID"))
            .collect();
        let running = list(hosts, host, "/containers/json")?;
        let have: BTreeSet<&str> =
            running.iter().map(|it| text(it, "/Labels/com.docker.swarm.task.id")).collect();
        if have != wanted || running.len() != wanted.len() {
            return Err(format!("{host} runs {have:?}, wished are {wanted:?}"));
        }
        let shims = hosts.processes(host, "shim").len();
        if shims != running.len() {
            return Err(format!("{host} has {shims} shims for {} containers", running.len()));
        }
    }
    Ok(())
}

/// No address of a network has two holders: tasks, and services by their virtual one.
fn addresses(services: &[Value], tasks: &[Value]) -> Result<(), String> {
    let mut holders: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut hold = |network: &str, address: &str, holder: &str| {
        let key = (network.to_owned(), address.split('/').next().unwrap_or_default().to_owned());
        match holders.insert(key.clone(), holder.to_owned()) {
            Some(other) if other != holder => Err(format!("{} is {other}'s and {holder}'s", key.1)),
            _ => Ok(()),
        }
    };
    for service in services {
        for own in service.pointer("/Endpoint/VirtualIPs").and_then(Value::as_array).into_iter().flatten() {
            hold(text(own, "/NetworkID"), text(own, "/Addr"), text(service, "/Spec/Name"))?;
        }
    }
    for task in tasks {
        for place in task.pointer("/NetworksAttachments").and_then(Value::as_array).into_iter().flatten() {
            for address in place.pointer("/Addresses").and_then(Value::as_array).into_iter().flatten() {
                let address = address.as_str().unwrap_or_default();
                hold(text(place, "/Network/ID"), address, text(task, "/ID"))?;
            }
        }
    }
    Ok(())
}

/// Once there is no service: no container, no shim, no mount of one, no interface of one.
pub(super) fn leftovers(hosts: &Hosts) -> Result<(), String> {
    for host in hosts.lab().hosts() {
        let name = host.name.as_str();
        let all = get(hosts, name, "/containers/json?all=true")?;
        if all.as_array().is_none_or(|all| !all.is_empty()) {
            return Err(format!("{name} still has {all}"));
        }
        let shims = hosts.processes(name, "shim");
        if !shims.is_empty() {
            return Err(format!("{name} still has shims {shims:?}"));
        }
        let lines = host.sh("grep -E ' overlay ' /proc/mounts; ip -o link | grep -E 'veth' || true");
        let lines = lines.map_err(|e| e.to_string())?;
        if !lines.trim().is_empty() {
            return Err(format!("{name} still has {lines}"));
        }
    }
    Ok(())
}
