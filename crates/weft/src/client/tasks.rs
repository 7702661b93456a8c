//! Tables of tasks, as `service ps` and `node ps` print them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::list::{Listing, Shown};
use super::swarm::capitalised;
use super::system::text;
use super::table;

const LISTING: Listing = Listing {
    titles: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Image", "IMAGE"),
        ("Node", "NODE"),
        ("DesiredState", "DESIRED STATE"),
        ("CurrentState", "CURRENT STATE"),
        ("Error", "ERROR"),
        ("Ports", "PORTS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}",
    quiet: "{{.ID}}",
};

/// Characters of an error in a table.
const ERROR_WIDTH: usize = 30;

pub(super) async fn list(daemon: &Daemon, filter: &[String], no_trunc: bool, shown: &Shown) -> Outcome {
    let answer = daemon.json(Call::get("/tasks").filters(filter)?).await?;
    let mut tasks: Vec<&Value> = answer.as_array().into_iter().flatten().collect();
    let mut names = Names { daemon, services: BTreeMap::new(), nodes: BTreeMap::new() };
    // By service and slot, the newest first: what came before it is its history.
    let created = |task: &Value| text(&task["CreatedAt"]);
    tasks.sort_by_key(|task| std::cmp::Reverse(created(task)));
    let place = |task: &Value| {
        let node = if task["Slot"].is_null() { text(&task["NodeID"]) } else { String::new() };
        (text(&task["ServiceID"]), task["Slot"].as_u64(), node)
    };
    tasks.sort_by_key(|task| place(task));
    if shown.quiet && shown.format.is_none() {
        tasks.iter().for_each(|task| println!("{}", text(&task["ID"])));
        return Ok(0);
    }
    let mut rows = Vec::new();
    let mut last = None;
    for task in tasks {
        let name = names.of_task(task).await?;
        let is_history = last.replace(place(task)) == Some(place(task));
        let mark = if is_history { " \\_ " } else { "" };
        rows.push(row(task, format!("{mark}{name}"), names.node(&text(&task["NodeID"])).await?, no_trunc));
    }
    LISTING.print(shown, &rows)
}

fn row(task: &Value, name: String, node: String, no_trunc: bool) -> Value {
    let id = text(&task["ID"]);
    let image = text(&task["Spec"]["ContainerSpec"]["Image"]);
    let status = &task["Status"];
    let error = text(&status["Err"]);
    let error = match error.char_indices().nth(ERROR_WIDTH) {
        Some(_) if !no_trunc => {
            let kept: String = error.chars().take(ERROR_WIDTH - 1).collect();
            format!("\"{kept}…\"")
        }
        _ if error.is_empty() => error,
        _ => format!("\"{error}\""),
    };
    let state = capitalised(&text(&status["State"]));
    json!({
        "ID": if no_trunc { id } else { table::short(&id) },
        "Name": name,
        "Image": image.split('@').next().unwrap_or_default(),
        "Node": node,
        "DesiredState": capitalised(&text(&task["DesiredState"])),
        "CurrentState": format!("{state} {}", table::since(&text(&status["Timestamp"]))).trim_end(),
        "Error": error,
        "Ports": ports(&status["PortStatus"]["Ports"]),
    })
}

/// Ports that the task itself publishes on its node.
fn ports(ports: &Value) -> String {
    let port = |p: &Value| {
        format!("*:{}->{}/{}", text(&p["PublishedPort"]), text(&p["TargetPort"]), text(&p["Protocol"]))
    };
    ports.as_array().into_iter().flatten().map(port).collect::<Vec<_>>().join(",")
}

/// Names of services and nodes, each asked for once.
struct Names<'a> {
    daemon: &'a Daemon,
    services: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
}

impl Names<'_> {
    async fn of_task(&mut self, task: &Value) -> Result<String, ClientError> {
        let service = text(&task["ServiceID"]);
        if !self.services.contains_key(&service) {
            let name = self.ask("/services/", &service, "/Spec/Name").await?;
            self.services.insert(service.clone(), name);
        }
        let place = if task["Slot"].is_null() { text(&task["NodeID"]) } else { text(&task["Slot"]) };
        Ok(format!("{}.{place}", self.services[&service]))
    }

    async fn node(&mut self, id: &str) -> Result<String, ClientError> {
        if id.is_empty() {
            return Ok(String::new());
        }
        if !self.nodes.contains_key(id) {
            let name = self.ask("/nodes/", id, "/Description/Hostname").await?;
            self.nodes.insert(id.to_owned(), name);
        }
        Ok(self.nodes[id].clone())
    }

    /// What is gone is shown by its id.
    async fn ask(&self, path: &str, id: &str, pointer: &str) -> Result<String, ClientError> {
        match self.daemon.json(Call::get(format!("{path}{}", escape(id)))).await {
            Ok(object) => Ok(object.pointer(pointer).map(text).unwrap_or_else(|| id.to_owned())),
            Err(ClientError::Daemon { status: 404, .. }) => Ok(id.to_owned()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_errors_are_cut() {
        let task = json!({
            "ID": "n4jfin4pbhbrjb44v2ybib31c",
            "Spec": { "ContainerSpec": { "Image": "alpine:latest@sha256:x" } },
            "DesiredState": "running",
            "Status": {
                "State": "pending",
                "Err": "no suitable node (scheduling constraints not satisfied on 3 nodes)",
            },
        });
        let cells = row(&task, "s.1".to_owned(), String::new(), false);
        assert_eq!(cells["ID"], "n4jfin4pbhbr");
        assert_eq!(cells["Image"], "alpine:latest");
        assert_eq!(cells["CurrentState"], "Pending");
        assert_eq!(cells["Error"], "\"no suitable node (scheduling …\"");
        let whole = row(&task, "s.1".to_owned(), String::new(), true);
        assert!(text(&whole["Error"]).ends_with("3 nodes)\""), "{whole}");
    }
}
