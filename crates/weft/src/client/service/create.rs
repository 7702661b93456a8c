//! `service create`.

use clap::Args;
use serde_json::{Map, Value, json};

use super::flags::{file, network, port, preference, usage};
use super::progress;
use super::settings::Settings;
use crate::client::connection::{Call, Daemon, escape};
use crate::client::container_spec::{mount, variable};
use crate::client::error::{ClientError, Outcome};
use crate::client::network::pairs;
use crate::client::system::text;

/// docker's names.
#[derive(Debug, Args)]
pub(in crate::client) struct Create {
    /// Name of the service
    #[arg(long)]
    name: Option<String>,
    /// replicated, global, replicated-job or global-job
    #[arg(long, default_value = "replicated")]
    mode: String,
    /// Label of the service key=value (repeatable)
    #[arg(short, long)]
    label: Vec<String>,
    /// Label of the containers key=value (repeatable)
    #[arg(long)]
    container_label: Vec<String>,
    /// Set a variable: key=value, or key to pass the own one (repeatable)
    #[arg(short, long)]
    env: Vec<String>,
    /// Network, or name=…,alias=… (repeatable)
    #[arg(long)]
    network: Vec<String>,
    /// Publish a port: [published:]target[/protocol], or published=…,target=…,mode=… (repeatable)
    #[arg(short, long)]
    publish: Vec<String>,
    /// Mount: type=…,source=…,target=…[,readonly] (repeatable)
    #[arg(long)]
    mount: Vec<String>,
    /// Secret, or source=…,target=…,mode=… (repeatable)
    #[arg(long)]
    secret: Vec<String>,
    /// Config, or source=…,target=…,mode=… (repeatable)
    #[arg(long)]
    config: Vec<String>,
    /// Nodes that will do: node.role==worker (repeatable)
    #[arg(long)]
    constraint: Vec<String>,
    /// How to spread: spread=node.labels.zone (repeatable)
    #[arg(long)]
    placement_pref: Vec<String>,
    /// Program instead of the image's
    #[arg(long)]
    entrypoint: Option<String>,
    /// Line for /etc/hosts: name:address (repeatable)
    #[arg(long)]
    host: Vec<String>,
    /// Add a capability (repeatable)
    #[arg(long)]
    cap_add: Vec<String>,
    /// Drop a capability (repeatable)
    #[arg(long)]
    cap_drop: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    /// Return at once
    #[arg(short, long)]
    detach: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// Image
    image: String,
    /// Command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(super) async fn execute(daemon: &Daemon, create: Create) -> Outcome {
    let spec = create.spec(daemon).await?;
    let made = daemon.json(Call::post("/services/create").json_body(&spec)).await?;
    let id = text(&made["ID"]);
    println!("{id}");
    progress::follow(daemon, &id, create.detach, create.quiet).await
}

impl Create {
    async fn spec(&self, daemon: &Daemon) -> Result<Value, ClientError> {
        let mut spec = json!({
            "Labels": pairs(&self.label),
            "TaskTemplate": { "ContainerSpec": self.container(daemon).await?, "Placement": {} },
            "Mode": mode(&self.mode)?,
            "EndpointSpec": { "Mode": "vip" },
        });
        if let Some(name) = &self.name {
            spec["Name"] = name.clone().into();
        }
        let networks = self.network.iter().map(|word| network(word)).collect::<Result<Vec<_>, _>>()?;
        let ports = self.publish.iter().map(|word| port(word)).collect::<Result<Vec<_>, _>>()?;
        put(&mut spec["TaskTemplate"], "Networks", networks);
        put(&mut spec["EndpointSpec"], "Ports", ports);
        let placement = &mut spec["TaskTemplate"]["Placement"];
        put(placement, "Constraints", self.constraint.iter().map(|c| json!(c)).collect());
        let preferences = self.placement_pref.iter().map(|word| preference(word));
        put(placement, "Preferences", preferences.collect::<Result<_, _>>()?);
        self.settings.apply(&mut spec)?;
        Ok(spec)
    }

    async fn container(&self, daemon: &Daemon) -> Result<Value, ClientError> {
        let mut container = json!({ "Image": self.image, "Init": false });
        let words = |words: &[String]| words.iter().map(|w| json!(w)).collect::<Vec<_>>();
        put(&mut container, "Args", words(&self.args));
        put(&mut container, "Env", self.env.iter().filter_map(|e| variable(e)).map(Value::from).collect());
        put(&mut container, "Mounts", self.mount.iter().map(|m| mount(m)).collect::<Result<_, _>>()?);
        put(&mut container, "CapabilityAdd", words(&self.cap_add));
        put(&mut container, "CapabilityDrop", words(&self.cap_drop));
        put(&mut container, "Hosts", self.host.iter().map(|h| host_line(h)).collect::<Result<_, _>>()?);
        put(&mut container, "Secrets", references(daemon, "Secret", &self.secret).await?);
        put(&mut container, "Configs", references(daemon, "Config", &self.config).await?);
        if !self.container_label.is_empty() {
            container["Labels"] = pairs(&self.container_label);
        }
        if let Some(entrypoint) = &self.entrypoint {
            container["Command"] = json!([entrypoint]);
        }
        Ok(container)
    }
}

/// Leaves out what is empty, as docker does.
fn put(at: &mut Value, key: &str, list: Vec<Value>) {
    if !list.is_empty() {
        at[key] = list.into();
    }
}

fn mode(word: &str) -> Result<Value, ClientError> {
    Ok(match word {
        "replicated" => json!({ "Replicated": {} }),
        "global" => json!({ "Global": {} }),
        "replicated-job" => json!({ "ReplicatedJob": {} }),
        "global-job" => json!({ "GlobalJob": {} }),
        _ => return Err(usage(format!("Unknown mode: {word}, only replicated and global supported"))),
    })
}

/// `name:address` as a line of /etc/hosts.
fn host_line(word: &str) -> Result<Value, ClientError> {
    let (name, address) =
        word.split_once(':').ok_or_else(|| usage(format!("bad format for add-host: {word:?}")))?;
    Ok(json!(format!("{address} {name}")))
}

/// Secrets and configs by name, with the files they become. `kind` is `Secret` or `Config`.
pub(super) async fn references(
    daemon: &Daemon,
    kind: &str,
    words: &[String],
) -> Result<Vec<Value>, ClientError> {
    let mut found = Vec::new();
    let path = format!("/{}s/", kind.to_ascii_lowercase());
    for word in words {
        let (name, file) = file(word)?;
        let object = daemon.json(Call::get(format!("{path}{}", escape(&name)))).await?;
        let mut reference = Map::from_iter([("File".to_owned(), file)]);
        reference.insert(format!("{kind}ID"), object["ID"].clone());
        reference.insert(format!("{kind}Name"), object["Spec"]["Name"].clone());
        found.push(reference.into());
    }
    Ok(found)
}
