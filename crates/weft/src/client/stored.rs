//! `secret …` and `config …`.

use std::io::Read as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

use super::connection::{Call, Daemon};
use super::error::{ClientError, Outcome};
use super::list::{self, Listing, labels};
use super::network::pairs;
use super::system::{for_each, text};
use super::{inspect, table};

const LISTING: Listing = Listing {
    titles: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("CreatedAt", "CREATED"),
        ("UpdatedAt", "UPDATED"),
        ("Labels", "LABELS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}",
    quiet: "{{.ID}}",
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create one from a file, or from standard input (-)
    Create {
        name: String,
        file: PathBuf,
        /// Label key=value (repeatable)
        #[arg(short, long)]
        label: Vec<String>,
    },
    /// List them
    #[command(visible_alias = "list")]
    Ls {
        #[arg(short, long, value_name = "filter")]
        filter: Vec<String>,
        #[command(flatten)]
        shown: list::Shown,
    },
    /// Show them as JSON
    Inspect {
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        shown: inspect::Shown,
    },
    /// Remove them
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `path` is `/secrets` or `/configs`.
pub(super) async fn execute(daemon: &Daemon, path: &str, verb: Verb) -> Outcome {
    match verb {
        Verb::Create { name, file, label } => {
            let data = STANDARD.encode(read(file)?);
            let body = json!({ "Name": name, "Labels": pairs(&label), "Data": data });
            let made = daemon.json(Call::post(format!("{path}/create")).json_body(&body)).await?;
            println!("{}", text(&made["ID"]));
            Ok(0)
        }
        Verb::Ls { filter, shown } => list(daemon, path, &filter, &shown).await,
        Verb::Inspect { names, shown } => inspect::all(daemon, &format!("{path}/"), "", &names, &shown).await,
        Verb::Rm { names } => for_each(daemon, &names, |name| Call::delete(format!("{path}/{name}"))).await,
    }
}

fn read(path: PathBuf) -> Result<Vec<u8>, ClientError> {
    if path.as_os_str() != "-" {
        return std::fs::read(&path).map_err(|source| ClientError::File { path, source });
    }
    let mut data = Vec::new();
    std::io::stdin().read_to_end(&mut data)?;
    Ok(data)
}

async fn list(daemon: &Daemon, path: &str, filter: &[String], shown: &list::Shown) -> Outcome {
    let objects = daemon.json(Call::get(path).filters(filter)?).await?;
    let row = |object: &Value| {
        let spec = &object["Spec"];
        json!({
            "ID": text(&object["ID"]), "Name": text(&spec["Name"]), "Driver": text(&spec["Driver"]["Name"]),
            "CreatedAt": table::since(&text(&object["CreatedAt"])), "UpdatedAt": table::since(&text(&object["UpdatedAt"])),
            "Labels": labels(&spec["Labels"]),
        })
    };
    let mut rows: Vec<Value> = objects.as_array().into_iter().flatten().map(row).collect();
    rows.sort_by_key(|row| text(&row["Name"]));
    LISTING.print(shown, &rows)
}
