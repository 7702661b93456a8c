//! `service …`.

mod create;
mod flags;
mod pretty;
mod progress;
mod settings;
mod update;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use flags::duration;
pub(super) use pretty::binary;

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::list::{self, Listing};
use super::system::{for_each, print_all, text};
use super::{container, inspect, table, tasks};

const LISTING: Listing = Listing {
    titles: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Mode", "MODE"),
        ("Replicas", "REPLICAS"),
        ("Image", "IMAGE"),
        ("Ports", "PORTS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}",
    quiet: "{{.ID}}",
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a service
    Create(Box<create::Create>),
    /// List services
    #[command(visible_alias = "list")]
    Ls {
        #[arg(short, long, value_name = "filter")]
        filter: Vec<String>,
        #[command(flatten)]
        shown: list::Shown,
    },
    /// List the tasks of services
    Ps {
        #[arg(required = true)]
        services: Vec<String>,
        #[arg(short, long, value_name = "filter")]
        filter: Vec<String>,
        /// Whole ids and errors
        #[arg(long)]
        no_trunc: bool,
        #[command(flatten)]
        shown: list::Shown,
    },
    /// Show services as JSON
    Inspect {
        #[arg(required = true)]
        services: Vec<String>,
        /// In a form for people
        #[arg(long)]
        pretty: bool,
        #[command(flatten)]
        shown: inspect::Shown,
    },
    /// Change a service
    Update(Box<update::Update>),
    /// Set the number of tasks: service=replicas
    Scale {
        #[arg(required = true)]
        services: Vec<String>,
        /// Return at once
        #[arg(short, long)]
        detach: bool,
    },
    /// Go back to the spec before the last update
    Rollback {
        service: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Remove services
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Show the output of a service or task
    Logs {
        service: String,
        #[arg(short, long)]
        follow: bool,
        #[arg(short, long)]
        timestamps: bool,
        /// Number of lines from the end of each task
        #[arg(short = 'n', long, default_value = "all")]
        tail: String,
        /// Only since this time (seconds)
        #[arg(long)]
        since: Option<String>,
        /// Show where lines come from, by ids
        #[arg(long)]
        details: bool,
    },
}

/// What to do after a change.
#[derive(Debug, Args)]
pub(in crate::client) struct Waiting {
    /// Return at once
    #[arg(short, long)]
    detach: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(create) => create::execute(daemon, *create).await,
        Verb::Ls { filter, shown } => list(daemon, &filter, &shown).await,
        Verb::Ps { services, filter, no_trunc, shown } => {
            let service = |name: &String| format!("service={name}");
            let filter: Vec<String> = services.iter().map(service).chain(filter).collect();
            tasks::list(daemon, &filter, no_trunc, &shown).await
        }
        Verb::Inspect { services, pretty: true, .. } => inspect_pretty(daemon, &services).await,
        Verb::Inspect { services, pretty: false, shown } => {
            inspect::all(daemon, "/services/", "", &services, &shown).await
        }
        Verb::Update(update) => update::execute(daemon, *update).await,
        Verb::Scale { services, detach } => update::scale(daemon, &services, detach).await,
        Verb::Rollback { service, waiting } => update::rollback(daemon, &service, &waiting).await,
        Verb::Rm { services } => {
            for_each(daemon, &services, |name| Call::delete(format!("/services/{name}"))).await
        }
        Verb::Logs { service, follow, timestamps, tail, since, details } => {
            let call = logs_of(daemon, &service).await?;
            let call = call
                .query("stdout", 1)
                .query("stderr", 1)
                .query("tail", tail)
                .query_if(follow, "follow", 1)
                .query_if(timestamps, "timestamps", 1)
                .query_if(details, "details", 1)
                .query_if(since.is_some(), "since", since.unwrap_or_default());
            container::print_output(daemon, call).await
        }
    }
}

async fn inspect_pretty(daemon: &Daemon, services: &[String]) -> Outcome {
    let networks = daemon.json(Call::get("/networks")).await?;
    let name = |id: &str| {
        let found = networks.as_array().into_iter().flatten().find(|network| network["Id"] == id);
        found.map_or_else(|| id.to_owned(), |network| text(&network["Name"]))
    };
    let call = |service: &str| Call::get(format!("/services/{service}")).query("insertDefaults", true);
    print_all(daemon, services, call, |service| pretty::pretty(service, name)).await
}

/// A service's output, or a task's if there is no such service.
async fn logs_of(daemon: &Daemon, name: &str) -> Result<Call, ClientError> {
    let name = escape(name);
    match daemon.json(Call::get(format!("/services/{name}"))).await {
        Ok(_) => Ok(Call::get(format!("/services/{name}/logs"))),
        Err(ClientError::Daemon { status: 404, .. }) => Ok(Call::get(format!("/tasks/{name}/logs"))),
        Err(error) => Err(error),
    }
}

/// Sets the number of tasks of a service's mode.
fn set_replicas(mode: &mut Value, replicas: u64) -> Result<(), ClientError> {
    if mode.get("Replicated").is_some() {
        mode["Replicated"] = json!({ "Replicas": replicas });
    } else if mode.get("ReplicatedJob").is_some() {
        mode["ReplicatedJob"]["TotalCompletions"] = replicas.into();
    } else {
        return Err(flags::usage("replicas can only be used with replicated or replicated-job mode"));
    }
    Ok(())
}

async fn list(daemon: &Daemon, filter: &[String], shown: &list::Shown) -> Outcome {
    let services = daemon.json(Call::get("/services").query("status", true).filters(filter)?).await?;
    let mut rows: Vec<Value> = services.as_array().into_iter().flatten().map(row).collect();
    rows.sort_by_key(|row| text(&row["Name"]));
    if shown.quiet && shown.format.is_none() {
        let ids = services.as_array().into_iter().flatten().map(|service| text(&service["ID"]));
        ids.for_each(|id| println!("{id}"));
        return Ok(0);
    }
    LISTING.print(shown, &rows)
}

fn row(service: &Value) -> Value {
    let (spec, status) = (&service["Spec"], &service["ServiceStatus"]);
    let mode = &spec["Mode"];
    let word = match () {
        () if mode["Global"].is_object() => "global",
        () if mode["GlobalJob"].is_object() => "global job",
        () if mode["ReplicatedJob"].is_object() => "replicated job",
        () => "replicated",
    };
    let mut replicas = format!("{}/{}", text(&status["RunningTasks"]), text(&status["DesiredTasks"]));
    if let Some(completions) = mode["ReplicatedJob"]["TotalCompletions"].as_u64() {
        replicas.push_str(&format!(" ({}/{completions} completed)", text(&status["CompletedTasks"])));
    }
    let ports = service["Endpoint"]["Ports"].as_array().into_iter().flatten();
    let ingress = ports.filter(|port| port["PublishMode"] == "ingress");
    let ports: Vec<String> = ingress
        .map(|p| {
            format!("*:{}->{}/{}", text(&p["PublishedPort"]), text(&p["TargetPort"]), text(&p["Protocol"]))
        })
        .collect();
    let image = text(&spec["TaskTemplate"]["ContainerSpec"]["Image"]);
    json!({
        "ID": table::short(&text(&service["ID"])),
        "Name": text(&spec["Name"]),
        "Mode": word,
        "Replicas": replicas,
        "Image": image.split('@').next().unwrap_or_default(),
        "Ports": ports.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_set_where_they_mean_something() {
        let mut mode = json!({ "Replicated": { "Replicas": 1 } });
        set_replicas(&mut mode, 3).unwrap();
        assert_eq!(mode, json!({ "Replicated": { "Replicas": 3 } }));
        assert!(set_replicas(&mut json!({ "Global": {} }), 3).is_err());
    }

    #[test]
    fn a_row_reads_like_dockers() {
        let service = json!({
            "ID": "irkzsxw9rbwzik0nomi3raz8a",
            "Spec": {
                "Name": "s3",
                "Mode": { "Replicated": { "Replicas": 1 } },
                "TaskTemplate": { "ContainerSpec": { "Image": "alpine:latest@sha256:abc" } },
            },
            "Endpoint": { "Ports": [
                { "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress" },
                { "Protocol": "tcp", "TargetPort": 85, "PublishedPort": 8085, "PublishMode": "host" },
            ] },
            "ServiceStatus": { "RunningTasks": 0, "DesiredTasks": 1, "CompletedTasks": 0 },
        });
        let want = json!({
            "ID": "irkzsxw9rbwz", "Name": "s3", "Mode": "replicated", "Replicas": "0/1", "Image": "alpine:latest",
            "Ports": "*:8080->80/tcp",
        });
        assert_eq!(row(&service), want);
    }
}
