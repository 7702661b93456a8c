//! `service update`, `rollback` and `scale`: the spec as it is, edited, and sent back with its version.

use clap::Args;
use serde_json::{Map, Value, json};

use super::create::references;
use super::flags::{network, port, usage};
use super::progress;
use super::settings::Settings;
use crate::client::connection::{Call, Daemon, escape};
use crate::client::container_spec::{mount, variable};
use crate::client::error::{ClientError, Outcome};
use crate::client::network::pairs;
use crate::client::system::text;

/// docker's names.
#[derive(Debug, Args)]
pub(in crate::client) struct Update {
    /// Image
    #[arg(long)]
    image: Option<String>,
    /// Command line, split at blanks
    #[arg(long)]
    args: Option<String>,
    /// Replace all tasks even if nothing changes
    #[arg(long)]
    force: bool,
    /// Back to the spec before
    #[arg(long)]
    rollback: bool,
    #[arg(long)]
    env_add: Vec<String>,
    #[arg(long)]
    env_rm: Vec<String>,
    #[arg(long)]
    label_add: Vec<String>,
    #[arg(long)]
    label_rm: Vec<String>,
    #[arg(long)]
    container_label_add: Vec<String>,
    #[arg(long)]
    container_label_rm: Vec<String>,
    #[arg(long)]
    constraint_add: Vec<String>,
    #[arg(long)]
    constraint_rm: Vec<String>,
    #[arg(long)]
    network_add: Vec<String>,
    #[arg(long)]
    network_rm: Vec<String>,
    #[arg(long)]
    publish_add: Vec<String>,
    /// By target port
    #[arg(long)]
    publish_rm: Vec<String>,
    #[arg(long)]
    mount_add: Vec<String>,
    /// By target
    #[arg(long)]
    mount_rm: Vec<String>,
    #[arg(long)]
    secret_add: Vec<String>,
    #[arg(long)]
    secret_rm: Vec<String>,
    #[arg(long)]
    config_add: Vec<String>,
    #[arg(long)]
    config_rm: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    waiting: super::Waiting,
    service: String,
}

pub(super) async fn execute(daemon: &Daemon, update: Update) -> Outcome {
    let service = get(daemon, &update.service).await?;
    let mut spec = service["Spec"].clone();
    update.apply(daemon, &mut spec).await?;
    send(daemon, &service, &spec, update.rollback).await?;
    println!("{}", update.service);
    progress::follow(daemon, &text(&service["ID"]), update.waiting.detach, update.waiting.quiet).await
}

pub(super) async fn rollback(daemon: &Daemon, name: &str, waiting: &super::Waiting) -> Outcome {
    let service = get(daemon, name).await?;
    send(daemon, &service, &service["Spec"], true).await?;
    println!("{name}");
    progress::follow(daemon, &text(&service["ID"]), waiting.detach, waiting.quiet).await
}

/// `words` are `service=replicas`.
pub(super) async fn scale(daemon: &Daemon, words: &[String], detach: bool) -> Outcome {
    let mut scaled = Vec::new();
    for word in words {
        let (name, replicas) = word
            .split_once('=')
            .ok_or_else(|| usage(format!("invalid scale specifier '{word}': want service=replicas")))?;
        let number: u64 =
            replicas.parse().map_err(|_| usage(format!("{name}: invalid replicas value {replicas}")))?;
        let service = get(daemon, name).await?;
        let mut spec = service["Spec"].clone();
        super::set_replicas(&mut spec["Mode"], number)?;
        send(daemon, &service, &spec, false).await?;
        println!("{name} scaled to {number}");
        scaled.push(text(&service["ID"]));
    }
    for id in scaled {
        progress::follow(daemon, &id, detach, false).await?;
    }
    Ok(0)
}

async fn get(daemon: &Daemon, name: &str) -> Result<Value, ClientError> {
    daemon.json(Call::get(format!("/services/{}", escape(name)))).await
}

async fn send(daemon: &Daemon, service: &Value, spec: &Value, rollback: bool) -> Result<(), ClientError> {
    let call = Call::post(format!("/services/{}/update", text(&service["ID"])))
        .query("version", &service["Version"]["Index"])
        .query_if(rollback, "rollback", "previous")
        .query_if(!rollback, "registryAuthFrom", "spec");
    daemon.json(call.json_body(spec)).await.map(drop)
}

impl Update {
    async fn apply(&self, daemon: &Daemon, spec: &mut Value) -> Result<(), ClientError> {
        merge(&mut spec["Labels"], &self.label_rm, pairs(&self.label_add));
        let networks = self.networks(daemon, &spec["TaskTemplate"]["Networks"]).await?;
        spec["TaskTemplate"]["Networks"] = networks;
        self.ports(&mut spec["EndpointSpec"])?;
        let task = &mut spec["TaskTemplate"];
        if self.force {
            task["ForceUpdate"] = (task["ForceUpdate"].as_u64().unwrap_or_default() + 1).into();
        }
        let constraints = &mut task["Placement"]["Constraints"];
        edit(
            constraints,
            |c| self.constraint_rm.iter().any(|rm| c == rm),
            self.constraint_add.iter().map(|c| json!(c)),
        );
        self.container(daemon, &mut task["ContainerSpec"]).await?;
        self.settings.apply(spec)
    }

    async fn container(&self, daemon: &Daemon, container: &mut Value) -> Result<(), ClientError> {
        if let Some(image) = &self.image {
            container["Image"] = image.clone().into();
        }
        if let Some(args) = &self.args {
            container["Args"] = args.split_whitespace().collect();
        }
        merge(&mut container["Labels"], &self.container_label_rm, pairs(&self.container_label_add));
        let added: Vec<String> = self.env_add.iter().filter_map(|word| variable(word)).collect();
        let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
        let gone: Vec<String> =
            added.iter().map(|word| key(word)).chain(self.env_rm.iter().cloned()).collect();
        let is_gone = |env: &Value| env.as_str().is_some_and(|env| gone.contains(&key(env)));
        edit(&mut container["Env"], is_gone, added.iter().map(|env| json!(env)));
        let mounts = self.mount_add.iter().map(|word| mount(word)).collect::<Result<Vec<_>, _>>()?;
        edit(&mut container["Mounts"], |m| self.mount_rm.iter().any(|rm| m["Target"] == *rm), mounts);
        for (kind, add, rm) in
            [("Secret", &self.secret_add, &self.secret_rm), ("Config", &self.config_add, &self.config_rm)]
        {
            let added = references(daemon, kind, add).await?;
            let name = format!("{kind}Name");
            edit(&mut container[format!("{kind}s")], |r| rm.iter().any(|rm| r[&name] == *rm), added);
        }
        Ok(())
    }

    async fn networks(&self, daemon: &Daemon, current: &Value) -> Result<Value, ClientError> {
        let mut networks = current.clone();
        let mut gone = Vec::new();
        for name in &self.network_rm {
            gone.push(network_id(daemon, name).await?);
        }
        let mut added = Vec::new();
        for word in &self.network_add {
            let mut attachment = network(word)?;
            attachment["Target"] = network_id(daemon, &text(&attachment["Target"])).await?.into();
            added.push(attachment);
        }
        edit(&mut networks, |n| gone.iter().any(|id| n["Target"] == *id), added);
        Ok(networks)
    }

    fn ports(&self, endpoint: &mut Value) -> Result<(), ClientError> {
        let added = self.publish_add.iter().map(|word| port(word)).collect::<Result<Vec<_>, _>>()?;
        let gone = self.publish_rm.iter().map(|word| port(word)).collect::<Result<Vec<_>, _>>()?;
        let is_gone = |p: &Value| {
            gone.iter().any(|g| g["TargetPort"] == p["TargetPort"] && g["Protocol"] == p["Protocol"])
        };
        edit(&mut endpoint["Ports"], is_gone, added);
        Ok(())
    }
}

async fn network_id(daemon: &Daemon, name: &str) -> Result<String, ClientError> {
    let call = Call::get(format!("/networks/{}", escape(name))).query("scope", "swarm");
    Ok(text(&daemon.json(call).await?["Id"]))
}

/// Removes and adds members of a list; an empty one is none.
fn edit(list: &mut Value, is_gone: impl Fn(&Value) -> bool, added: impl IntoIterator<Item = Value>) {
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.retain(|item| !is_gone(item));
    items.extend(added);
    *list = if items.is_empty() { Value::Null } else { items.into() };
}

/// Removes and sets members of a map.
fn merge(map: &mut Value, gone: &[String], added: Value) {
    let mut members: Map<String, Value> = map.as_object().cloned().unwrap_or_default();
    members.retain(|key, _| !gone.contains(key));
    members.extend(added.as_object().cloned().unwrap_or_default());
    *map = members.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_maps_are_edited() {
        let mut list = json!(["a", "b"]);
        edit(&mut list, |item| item == "a", [json!("c")]);
        assert_eq!(list, json!(["b", "c"]));
        edit(&mut list, |_| true, []);
        assert_eq!(list, Value::Null);
        let mut map = json!({ "a": "1", "b": "2" });
        merge(&mut map, &["a".to_owned()], json!({ "b": "3" }));
        assert_eq!(map, json!({ "b": "3" }));
    }
}
