//! `prune` of containers, images, networks and volumes, and of all of them.

use clap::Args;
use serde_json::Value;

use super::connection::{Call, Daemon};
use super::error::{ClientError, Outcome};
use super::system::text;
use super::table;

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Images and volumes: all that no container uses, not only nameless ones
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what matches, for example until=24h or label=key (repeatable)
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct PruneAll {
    #[command(flatten)]
    prune: Prune,
    /// Also nameless volumes
    #[arg(long)]
    volumes: bool,
}

pub(super) async fn containers(daemon: &Daemon, prune: &Prune) -> Outcome {
    prune
        .ask("This will remove all stopped containers.", async || remove_containers(daemon, prune).await)
        .await
}

pub(super) async fn images(daemon: &Daemon, prune: &Prune) -> Outcome {
    let warning = match prune.all {
        true => "This will remove all images without at least one container associated to them.",
        false => "This will remove all dangling images.",
    };
    prune.ask(warning, async || remove_images(daemon, prune).await).await
}

pub(super) async fn networks(daemon: &Daemon, prune: &Prune) -> Outcome {
    let warning = "This will remove all custom networks not used by at least one container.";
    prune
        .ask(warning, async || {
            remove_networks(daemon, prune).await?;
            Ok(None)
        })
        .await
}

pub(super) async fn volumes(daemon: &Daemon, prune: &Prune) -> Outcome {
    let warning = match prune.all {
        true => "This will remove all local volumes not used by at least one container.",
        false => "This will remove anonymous local volumes not used by at least one container.",
    };
    prune.ask(warning, async || remove_volumes(daemon, prune).await).await
}

/// `system prune`: in docker's order, so that what is free by the one goes with the next.
pub(super) async fn everything(daemon: &Daemon, flags: &PruneAll) -> Outcome {
    let prune = &flags.prune;
    if flags.volumes && prune.filter.iter().any(|filter| filter.starts_with("until")) {
        return Err(ClientError::Usage(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"".to_owned(),
        ));
    }
    let mut warning = "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if flags.volumes {
        warning.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    warning.push_str(match prune.all {
        true => "  - all images without at least one container associated to them\n",
        false => "  - all dangling images\n",
    });
    prune
        .ask(&warning, async || {
            let mut freed = remove_containers(daemon, prune).await?.unwrap_or(0);
            remove_networks(daemon, prune).await?;
            if flags.volumes {
                // -a speaks of images here.
                let nameless = Prune { all: false, force: true, filter: prune.filter.clone() };
                freed += remove_volumes(daemon, &nameless).await?.unwrap_or(0);
            }
            freed += remove_images(daemon, prune).await?.unwrap_or(0);
            Ok(Some(freed))
        })
        .await
}

impl Prune {
    /// Does it if the user agrees; prints how many bytes came free, where that is known.
    async fn ask(
        &self,
        warning: &str,
        work: impl AsyncFnOnce() -> Result<Option<i64>, ClientError>,
    ) -> Outcome {
        if !self.force && !confirm(warning)? {
            return Ok(0);
        }
        if let Some(freed) = work().await? {
            println!("Total reclaimed space: {}", table::size(freed));
        }
        Ok(0)
    }

    fn call(&self, path: &str, further: Option<&str>) -> Result<Call, ClientError> {
        let filters: Vec<String> = self.filter.iter().cloned().chain(further.map(str::to_owned)).collect();
        Call::post(path).filters(&filters)
    }
}

async fn remove_containers(daemon: &Daemon, prune: &Prune) -> Result<Option<i64>, ClientError> {
    let answer = daemon.json(prune.call("/containers/prune", None)?).await?;
    Ok(removed(&answer, "ContainersDeleted", "Deleted Containers:"))
}

async fn remove_networks(daemon: &Daemon, prune: &Prune) -> Result<(), ClientError> {
    let answer = daemon.json(prune.call("/networks/prune", None)?).await?;
    removed(&answer, "NetworksDeleted", "Deleted Networks:");
    Ok(())
}

async fn remove_volumes(daemon: &Daemon, prune: &Prune) -> Result<Option<i64>, ClientError> {
    let answer = daemon.json(prune.call("/volumes/prune", prune.all.then_some("all=1"))?).await?;
    Ok(removed(&answer, "VolumesDeleted", "Deleted Volumes:"))
}

async fn remove_images(daemon: &Daemon, prune: &Prune) -> Result<Option<i64>, ClientError> {
    let which = if prune.all { "dangling=0" } else { "dangling=1" };
    let mut answer = daemon.json(prune.call("/images/prune", Some(which))?).await?;
    let line = |image: &Value| match image["Untagged"].as_str() {
        Some(name) => format!("untagged: {name}"),
        None => format!("deleted: {}", text(&image["Deleted"])),
    };
    let lines: Vec<Value> =
        answer["ImagesDeleted"].as_array().into_iter().flatten().map(|i| line(i).into()).collect();
    answer["ImagesDeleted"] = lines.into();
    Ok(removed(&answer, "ImagesDeleted", "Deleted Images:"))
}

/// Prints what went, and how many bytes came free with it.
fn removed(answer: &Value, key: &str, title: &str) -> Option<i64> {
    let names: Vec<String> = answer[key].as_array().into_iter().flatten().map(text).collect();
    if !names.is_empty() {
        println!("{title}\n{}\n", names.join("\n"));
    }
    Some(answer["SpaceReclaimed"].as_i64().unwrap_or(0))
}

/// Asks a question that only `y` answers with yes.
fn confirm(warning: &str) -> Result<bool, ClientError> {
    use std::io::Write as _;
    print!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
