//! Changes of nodes: `node update`, `promote`, `demote`.

use clap::Args;
use serde_json::{Map, Value};

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::network::pairs;
use super::system::text;

/// docker's names.
#[derive(Debug, Args)]
pub(super) struct Update {
    /// active, pause or drain
    #[arg(long)]
    availability: Option<String>,
    /// worker or manager
    #[arg(long)]
    role: Option<String>,
    /// Label key=value (repeatable)
    #[arg(long)]
    label_add: Vec<String>,
    /// Key of a label (repeatable)
    #[arg(long)]
    label_rm: Vec<String>,
    node: String,
}

pub(super) async fn update(daemon: &Daemon, update: &Update) -> Outcome {
    change(daemon, &update.node, |spec| {
        if let Some(availability) = &update.availability {
            spec["Availability"] = availability.clone().into();
        }
        if let Some(role) = &update.role {
            spec["Role"] = role.clone().into();
        }
        let mut labels: Map<String, Value> = spec["Labels"].as_object().cloned().unwrap_or_default();
        labels.retain(|key, _| !update.label_rm.contains(key));
        labels.extend(pairs(&update.label_add).as_object().cloned().unwrap_or_default());
        spec["Labels"] = labels.into();
    })
    .await?;
    println!("{}", update.node);
    Ok(0)
}

/// Goes on after errors, as docker does.
pub(super) async fn set_role(daemon: &Daemon, nodes: &[String], role: &str) -> Outcome {
    let done = match role {
        "manager" => "promoted to a manager in the swarm",
        _ => "demoted in the swarm",
    };
    let mut failed = 0;
    for node in nodes {
        match change(daemon, node, |spec| spec["Role"] = role.into()).await {
            Ok(true) => println!("Node {node} {done}."),
            Ok(false) => println!("Node {node} is already a {role}."),
            Err(error @ ClientError::Daemon { .. }) => {
                eprintln!("{error}");
                failed = 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

/// Whether anything was to be changed.
async fn change(daemon: &Daemon, node: &str, edit: impl FnOnce(&mut Value)) -> Result<bool, ClientError> {
    let current = daemon.json(Call::get(format!("/nodes/{}", escape(node)))).await?;
    let mut spec = current["Spec"].clone();
    edit(&mut spec);
    if spec == current["Spec"] {
        return Ok(false);
    }
    let call = Call::post(format!("/nodes/{}/update", text(&current["ID"])))
        .query("version", &current["Version"]["Index"]);
    daemon.json(call.json_body(&spec)).await?;
    Ok(true)
}
