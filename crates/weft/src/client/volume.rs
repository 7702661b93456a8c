//! `volume …`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Call, Daemon};
use super::error::Outcome;
use super::list::{ListFlags, Listing, labels};
use super::network::pairs;
use super::prune::{self, Prune};
use super::system::{for_each, text};
use super::{inspect, table};

const LISTING: Listing = Listing {
    titles: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Size", "SIZE"),
        ("Links", "LINKS"),
    ],
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a volume
    Create(Create),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Show volumes as JSON
    Inspect {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        shown: inspect::Shown,
    },
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        names: Vec<String>,
        /// Also when there is none of that name
        #[arg(short, long)]
        force: bool,
    },
    /// Remove volumes that no container uses: those without a name, or all
    Prune(Prune),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// A name is made up without one
    name: Option<String>,
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Option of the driver key=value (repeatable)
    #[arg(short, long)]
    opt: Vec<String>,
    /// Label key=value (repeatable)
    #[arg(long)]
    label: Vec<String>,
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(create) => {
            let body = json!({
                "Name": create.name.unwrap_or_default(), "Driver": create.driver,
                "DriverOpts": pairs(&create.opt), "Labels": pairs(&create.label),
            });
            let made = daemon.json(Call::post("/volumes/create").json_body(&body)).await?;
            println!("{}", text(&made["Name"]));
            Ok(0)
        }
        Verb::Ls(flags) => {
            let answer = daemon.json(Call::get("/volumes").filters(&flags.filter)?).await?;
            let mut rows: Vec<Value> = answer["Volumes"].as_array().into_iter().flatten().map(row).collect();
            rows.sort_by_key(|row| text(&row["Name"]));
            LISTING.print(&flags.shown, &rows)
        }
        Verb::Inspect { names, shown } => inspect::all(daemon, "/volumes/", "", &names, &shown).await,
        Verb::Rm { names, force } => {
            for_each(daemon, &names, |n| Call::delete(format!("/volumes/{n}")).query_if(force, "force", 1))
                .await
        }
        Verb::Prune(prune) => prune::volumes(daemon, &prune).await,
    }
}

fn row(volume: &Value) -> Value {
    let usage = |key: &str| volume["UsageData"][key].as_i64().filter(|known| *known >= 0);
    json!({
        "Driver": text(&volume["Driver"]), "Name": text(&volume["Name"]), "Scope": text(&volume["Scope"]),
        "Mountpoint": text(&volume["Mountpoint"]), "Labels": labels(&volume["Labels"]),
        "Size": usage("Size").map_or_else(|| "N/A".to_owned(), table::size),
        "Links": usage("RefCount").map_or_else(|| "N/A".to_owned(), |links| links.to_string()),
    })
}
