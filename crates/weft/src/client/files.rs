//! `cp`, `diff`, `export`, `commit`.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Subcommand};
use futures_util::TryStreamExt as _;
use http_body_util::BodyDataStream;
use hyper::Response;
use hyper::body::Incoming;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::StreamReader;

use super::connection::{Call, Daemon, escape};
use super::copy::Copy;
use super::error::{ClientError, Outcome};
use super::image::split_tag;
use super::system::text;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Copy files and folders between this machine and a container
    Cp(Copy),
    /// Show what a container has changed in its image's files
    Diff { container: String },
    /// Write a container's files as a tar archive
    Export {
        container: String,
        /// A file instead of standard output
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Make an image of a container
    Commit {
        container: String,
        /// NAME or NAME:TAG
        reference: Option<String>,
        /// Who made it
        #[arg(short, long)]
        author: Option<String>,
        #[arg(short, long)]
        message: Option<String>,
        /// A Dockerfile instruction to apply (repeatable)
        #[arg(short, long)]
        change: Vec<String>,
        /// Let the container wait meanwhile
        #[arg(short, long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1,
            require_equals = true, default_missing_value = "true")]
        pause: bool,
        /// Let it run on
        #[arg(long)]
        no_pause: bool,
    },
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Cp(copy) => copy.execute(daemon).await,
        Verb::Diff { container } => diff(daemon, &container).await,
        Verb::Export { container, output } => {
            let call = Call::get(format!("/containers/{}/export", escape(&container)));
            download(daemon.call(call).await?, output.as_deref()).await
        }
        Verb::Commit { container, reference, author, message, change, pause, no_pause } => {
            let (name, tag) = split_tag(reference.as_deref().unwrap_or_default());
            let mut call = Call::post("/commit").query("container", container).query("repo", name);
            call = call.query("tag", tag).query_if(no_pause || !pause, "pause", 0);
            call = call.query("author", author.unwrap_or_default());
            call = call.query("comment", message.unwrap_or_default());
            for instruction in change {
                call = call.query("changes", instruction);
            }
            println!("{}", text(&daemon.json(call).await?["Id"]));
            Ok(0)
        }
    }
}

/// Writes an answer's bytes to a file, or to standard output.
pub(super) async fn download(response: Response<Incoming>, file: Option<&Path>) -> Outcome {
    let bytes = BodyDataStream::new(response.into_body()).map_err(std::io::Error::other);
    let mut output: Box<dyn AsyncWrite + Unpin> = match file {
        Some(path) => {
            let failed = |source| ClientError::File { path: path.to_owned(), source };
            Box::new(tokio::fs::File::create(path).await.map_err(failed)?)
        }
        None => Box::new(tokio::io::stdout()),
    };
    tokio::io::copy(&mut StreamReader::new(bytes), &mut output).await?;
    output.flush().await?;
    Ok(0)
}

async fn diff(daemon: &Daemon, container: &str) -> Outcome {
    let changes = daemon.json(Call::get(format!("/containers/{}/changes", escape(container)))).await?;
    for change in changes.as_array().into_iter().flatten() {
        let letter = match change["Kind"].as_u64() {
            Some(0) => "C",
            Some(1) => "A",
            _ => "D",
        };
        println!("{letter} {}", text(&change["Path"]));
    }
    Ok(0)
}
