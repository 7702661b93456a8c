//! `secret …` and `config …`.

use std::io::Read as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

use super::connection::{Call, Daemon};
use super::error::{ClientError, Outcome};
use super::network::pairs;
use super::system::{for_each, inspect_all, text};
use super::table;

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
        /// Only ids
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show them as JSON
    Inspect {
        #[arg(required = true)]
        names: Vec<String>,
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
        Verb::Ls { filter, quiet } => list(daemon, path, &filter, quiet).await,
        Verb::Inspect { names } => inspect_all(daemon, &format!("{path}/"), "", &names).await,
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

async fn list(daemon: &Daemon, path: &str, filter: &[String], quiet: bool) -> Outcome {
    let objects = daemon.json(Call::get(path).filters(filter)?).await?;
    let row = |object: &Value| {
        vec![
            text(&object["ID"]),
            text(&object["Spec"]["Name"]),
            table::since(&text(&object["CreatedAt"])),
            table::since(&text(&object["UpdatedAt"])),
        ]
    };
    let mut rows: Vec<Vec<String>> = objects.as_array().into_iter().flatten().map(row).collect();
    rows.sort_by(|a, b| a[1].cmp(&b[1]));
    if quiet {
        rows.iter().for_each(|row| println!("{}", row[0]));
    } else {
        table::print(&["ID", "NAME", "CREATED", "UPDATED"], &rows);
    }
    Ok(0)
}
