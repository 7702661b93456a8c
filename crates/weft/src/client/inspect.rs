//! `inspect` of everything: JSON, or what a template says of each.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::template::Template;

/// How objects are shown.
#[derive(Debug, Default, Clone, Args)]
pub(super) struct Shown {
    /// json, or a template of Go's, for example '{{.State.Status}}'
    #[arg(short, long, value_name = "format")]
    pub(super) format: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    Container,
    Image,
    Network,
    Volume,
    Service,
    Task,
    Node,
    Secret,
    Config,
}

/// Where an object of any kind may be found, in docker's order.
const KINDS: [(Kind, &str, &str); 9] = [
    (Kind::Container, "/containers/", "/json"),
    (Kind::Image, "/images/", "/json"),
    (Kind::Network, "/networks/", ""),
    (Kind::Volume, "/volumes/", ""),
    (Kind::Service, "/services/", ""),
    (Kind::Task, "/tasks/", ""),
    (Kind::Node, "/nodes/", ""),
    (Kind::Secret, "/secrets/", ""),
    (Kind::Config, "/configs/", ""),
];

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Names or ids
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    shown: Shown,
    /// Only objects of this kind
    #[arg(long = "type", value_name = "kind")]
    kind: Option<Kind>,
    /// Containers with their sizes
    #[arg(short, long)]
    size: bool,
}

impl Inspect {
    /// Looks at all kinds, or at the one that was asked for.
    pub(super) async fn execute(&self, daemon: &Daemon) -> Outcome {
        self.of(daemon, self.kind).await
    }

    /// Looks at one kind, whatever was asked for.
    pub(super) async fn only(&self, daemon: &Daemon, kind: Kind) -> Outcome {
        self.of(daemon, Some(kind)).await
    }

    async fn of(&self, daemon: &Daemon, kind: Option<Kind>) -> Outcome {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for name in &self.names {
            match self.find(daemon, kind, name).await {
                Ok(object) => found.push(object),
                Err(error @ ClientError::Daemon { .. }) => problems.push(error.to_string()),
                Err(ClientError::Usage(problem)) => problems.push(problem),
                Err(error) => return Err(error),
            }
        }
        print(&found, &self.shown)?;
        Ok(report(&problems))
    }

    async fn find(&self, daemon: &Daemon, kind: Option<Kind>, name: &str) -> Result<Value, ClientError> {
        let kinds = KINDS.iter().filter(|(known, ..)| kind.is_none_or(|kind| *known == kind));
        for (known, before, after) in kinds {
            let call = Call::get(format!("{before}{}{after}", escape(name)));
            match daemon.json(call.query_if(self.size && *known == Kind::Container, "size", 1)).await {
                Ok(object) => return Ok(object),
                Err(error) if kind.is_some() => return Err(error),
                // 503: not a swarm manager, which means there are no nodes to be found here.
                Err(ClientError::Daemon { status: 404 | 503, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::Usage(format!("error: no such object: {name}")))
    }
}

/// Prints objects of one kind, each asked for by its own call.
pub(super) async fn all(
    daemon: &Daemon,
    prefix: &str,
    suffix: &str,
    names: &[String],
    shown: &Shown,
) -> Outcome {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for name in names {
        match daemon.json(Call::get(format!("{prefix}{}{suffix}", escape(name)))).await {
            Ok(object) => found.push(object),
            Err(error @ ClientError::Daemon { .. }) => problems.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    print(&found, shown)?;
    Ok(report(&problems))
}

/// Behind what was found, as docker has it.
fn report(problems: &[String]) -> u8 {
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    u8::from(!problems.is_empty())
}

fn print(objects: &[Value], shown: &Shown) -> Result<(), ClientError> {
    match shown.format.as_deref() {
        None | Some("") => println!("{}", serde_json::to_string_pretty(objects)?),
        Some("json") => println!("{}", serde_json::to_string(objects)?),
        Some(template) => {
            let template = Template::parse(template)?;
            for object in objects {
                println!("{}", template.render(object)?);
            }
        }
    }
    Ok(())
}

/// Prints one object by a template, or as JSON.
pub(super) fn one(object: &Value, format: &str) -> Outcome {
    match format {
        "json" => println!("{}", serde_json::to_string(object)?),
        template => println!("{}", Template::parse(template)?.render(object)?),
    }
    Ok(0)
}
