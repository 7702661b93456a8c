//! `images`, `history`, `pull`, `import`, `load`, `save`, `tag`, `rmi`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::connection::{Call, Daemon, escape};
use super::credentials::{Credentials, registry_of};
use super::error::{ClientError, Outcome};
use super::files::download;
use super::layers;
use super::list::images;
use super::system::text;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List images
    Images(images::List),
    /// Show how an image was made
    History(images::History),
    /// Make an image from a tar of a root file system
    Import {
        /// A file, or - for standard input
        file: PathBuf,
        /// NAME or NAME:TAG
        reference: Option<String>,
        /// Message of the commit
        #[arg(short, long)]
        message: Option<String>,
        /// A Dockerfile instruction to apply (repeatable)
        #[arg(short, long)]
        change: Vec<String>,
    },
    /// Load images from a tar that `docker save` wrote
    Load {
        /// A file instead of standard input
        #[arg(short, long)]
        input: Option<PathBuf>,
    },
    /// Write images as a tar that `load` reads
    Save {
        #[arg(required = true)]
        images: Vec<String>,
        /// A file instead of standard output
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Bring an image from its registry
    Pull {
        /// NAME, NAME:TAG or NAME@DIGEST
        image: String,
        /// Only the image's name at the end
        #[arg(short, long)]
        quiet: bool,
        /// os/architecture instead of the daemon's
        #[arg(long, value_name = "platform")]
        platform: Option<String>,
    },
    /// Give an image a further name
    Tag { image: String, reference: String },
    /// Remove images
    Rmi(Remove),
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    #[arg(required = true)]
    images: Vec<String>,
    #[arg(short, long)]
    force: bool,
    /// Keep what the image was made of
    #[arg(long)]
    no_prune: bool,
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Images(list) => list.execute(daemon).await,
        Verb::History(history) => history.execute(daemon).await,
        Verb::Import { file, reference, message, change } => {
            let (name, tag) = split_tag(reference.as_deref().unwrap_or_default());
            let mut call = Call::post("/images/create").query("fromSrc", "-").query("repo", name);
            call = call.query_if(!tag.is_empty(), "tag", tag);
            call = call.query_if(message.is_some(), "message", message.unwrap_or_default());
            for instruction in change {
                call = call.query("changes", instruction);
            }
            upload(daemon, call, Some(&file)).await
        }
        Verb::Load { input } => {
            upload(daemon, Call::post("/images/load").query("quiet", 1), input.as_deref()).await
        }
        Verb::Save { images, output } => {
            if output.is_none() && std::io::stdout().is_terminal() {
                return Err(ClientError::Usage(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect".to_owned(),
                ));
            }
            let call = images.iter().fold(Call::get("/images/get"), |call, image| call.query("names", image));
            download(daemon.call(call).await?, output.as_deref()).await
        }
        Verb::Pull { image, quiet, platform } => pull(daemon, &image, quiet, platform).await,
        Verb::Tag { image, reference } => {
            let (name, tag) = split_tag(&reference);
            daemon
                .json(Call::post(format!("/images/{image}/tag")).query("repo", name).query("tag", tag))
                .await?;
            Ok(0)
        }
        Verb::Rmi(Remove { images, force, no_prune }) => remove(daemon, &images, force, no_prune).await,
    }
}

/// `name:tag` in two; a colon before a slash belongs to a registry's port.
pub(super) fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, ""),
    }
}

/// Prints what went: names, and images with them.
async fn remove(daemon: &Daemon, images: &[String], force: bool, no_prune: bool) -> Outcome {
    let mut failed = 0;
    for image in images {
        let call = Call::delete(format!("/images/{}", escape(image)));
        match daemon.json(call.query_if(force, "force", 1).query_if(no_prune, "noprune", 1)).await {
            Ok(answer) => {
                answer.as_array().into_iter().flatten().for_each(|gone| match gone["Deleted"].as_str() {
                    Some(id) => println!("Deleted: {id}"),
                    None => println!("Untagged: {}", text(&gone["Untagged"])),
                })
            }
            Err(error @ ClientError::Daemon { .. }) => {
                eprintln!("{error}");
                failed = 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

async fn pull(daemon: &Daemon, image: &str, quiet: bool, platform: Option<String>) -> Outcome {
    fetch(daemon, image, quiet, platform.as_deref()).await?;
    if quiet {
        let is_whole = image.contains('@') || !split_tag(image).1.is_empty();
        println!("{image}{}", if is_whole { "" } else { ":latest" });
    }
    Ok(0)
}

/// Brings an image that a container is to be made of; standard output stays the container's.
pub(super) async fn bring(daemon: &Daemon, image: &str, platform: Option<&str>) -> Result<(), ClientError> {
    fetch(daemon, image, true, platform).await
}

async fn fetch(daemon: &Daemon, image: &str, quiet: bool, platform: Option<&str>) -> Result<(), ClientError> {
    let (name, tag) = match image.contains('@') {
        true => (image, ""),
        false => match split_tag(image) {
            (name, "") => (name, "latest"),
            both => both,
        },
    };
    let auth = Credentials::load()?.header(registry_of(name))?;
    let call = Call::post("/images/create").query("fromImage", name).query_if(!tag.is_empty(), "tag", tag);
    let call = call.query_if(platform.is_some(), "platform", platform.unwrap_or_default());
    layers::follow(daemon.call(call.header("X-Registry-Auth", auth)).await?, quiet).await
}

/// Sends a file as the body with a progress bar and prints what the daemon says of it.
async fn upload(daemon: &Daemon, call: Call, file: Option<&Path>) -> Outcome {
    let (reader, length) = open(file.filter(|f| f.as_os_str() != "-")).await?;
    let bar = progress(length);
    let counted = bar.clone();
    let stream = ReaderStream::new(reader).inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            counted.inc(chunk.len() as u64);
        }
    });
    let outcome = daemon.call(call.stream_body(stream)).await;
    bar.finish_and_clear();
    let body = outcome?.into_body().collect().await?.to_bytes();
    print_messages(&body)
}

async fn open(
    file: Option<&Path>,
) -> Result<(Box<dyn AsyncRead + Send + Sync + Unpin>, Option<u64>), ClientError> {
    let Some(path) = file else { return Ok((Box::new(tokio::io::stdin()), None)) };
    let failed = |source| ClientError::File { path: path.to_owned(), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    Ok((Box::new(file), Some(length)))
}

/// A bar on standard error where that is a terminal; indicatif hides it elsewhere.
fn progress(length: Option<u64>) -> ProgressBar {
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    bar.set_style(
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}

/// The daemon answers with JSON messages in a row; an error may come after the headers.
fn print_messages(body: &Bytes) -> Outcome {
    for message in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        let message = message?;
        if let Some(error) = message["error"].as_str() {
            return Err(ClientError::Daemon { status: 200, message: error.to_owned() });
        }
        for key in ["stream", "status"] {
            if let Some(line) = message[key].as_str() {
                println!("{}", line.trim_end());
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::split_tag;

    #[test]
    fn a_registrys_port_is_no_tag() {
        assert_eq!(split_tag("busybox:1"), ("busybox", "1"));
        assert_eq!(split_tag("host:5000/busybox"), ("host:5000/busybox", ""));
        assert_eq!(split_tag("host:5000/busybox:1"), ("host:5000/busybox", "1"));
    }
}
