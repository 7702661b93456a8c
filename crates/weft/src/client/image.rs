//! `images`, `pull`, `import`, `load`, `tag`, `rmi`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Subcommand;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, BodyStream};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead};
use tokio_util::io::{ReaderStream, StreamReader};

use super::connection::{Call, Daemon};
use super::error::{ClientError, Outcome};
use super::system::{for_each, text};
use super::table;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List images
    Images {
        /// Only ids
        #[arg(short, long)]
        quiet: bool,
        #[arg(short, long, value_name = "filter")]
        filter: Vec<String>,
        /// Whole ids
        #[arg(long)]
        no_trunc: bool,
    },
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
    /// Bring an image from a registry that asks for no password
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
    Rmi {
        #[arg(required = true)]
        images: Vec<String>,
        #[arg(short, long)]
        force: bool,
    },
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    match verb {
        Verb::Images { quiet, filter, no_trunc } => list(daemon, quiet, &filter, no_trunc).await,
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
        Verb::Pull { image, quiet, platform } => pull(daemon, &image, quiet, platform).await,
        Verb::Tag { image, reference } => {
            let (name, tag) = split_tag(&reference);
            daemon
                .json(Call::post(format!("/images/{image}/tag")).query("repo", name).query("tag", tag))
                .await?;
            Ok(0)
        }
        Verb::Rmi { images, force } => {
            for_each(daemon, &images, |n| Call::delete(format!("/images/{n}")).query_if(force, "force", 1))
                .await
        }
    }
}

/// `name:tag` in two; a colon before a slash belongs to a registry's port.
pub(super) fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, ""),
    }
}

/// Tells how the layers get on, one line for each step; amounts are a bar.
async fn pull(daemon: &Daemon, image: &str, quiet: bool, platform: Option<String>) -> Outcome {
    let (name, tag) = match image.contains('@') {
        true => (image, ""),
        false => match split_tag(image) {
            (name, "") => (name, "latest"),
            both => both,
        },
    };
    let call = Call::post("/images/create").query("fromImage", name).query_if(!tag.is_empty(), "tag", tag);
    let call = call.query_if(platform.is_some(), "platform", platform.unwrap_or_default());
    let body = BodyStream::new(daemon.call(call).await?.into_body());
    let bytes = body.filter_map(|frame| async {
        frame.map(|frame| frame.into_data().ok()).map_err(std::io::Error::other).transpose()
    });
    let mut lines = StreamReader::new(Box::pin(bytes)).lines();
    let bar = progress(Some(0));
    while let Some(line) = lines.next_line().await? {
        let message: Value = serde_json::from_str(&line)?;
        if let Some(error) = message["error"].as_str() {
            return Err(ClientError::Daemon { status: 200, message: error.to_owned() });
        }
        if let (Some(current), Some(total)) =
            (message["progressDetail"]["current"].as_u64(), message["progressDetail"]["total"].as_u64())
        {
            bar.set_length(total);
            bar.set_position(current);
            bar.set_message(text(&message["id"]).to_owned());
        } else if !quiet {
            let id = message["id"].as_str().map(|id| format!("{id}: ")).unwrap_or_default();
            bar.suspend(|| println!("{id}{}", text(&message["status"])));
        }
    }
    bar.finish_and_clear();
    if quiet {
        println!("{}", if tag.is_empty() { name.to_owned() } else { format!("{name}:{tag}") });
    }
    Ok(0)
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

async fn list(daemon: &Daemon, quiet: bool, filter: &[String], no_trunc: bool) -> Outcome {
    let images = daemon.json(Call::get("/images/json").filters(filter)?).await?;
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let mut rows = Vec::new();
    for image in images.as_array().into_iter().flatten() {
        let id = text(&image["Id"]);
        let id = if no_trunc { id } else { id.trim_start_matches("sha256:").chars().take(12).collect() };
        let created = table::ago(now - image["Created"].as_i64().unwrap_or(now));
        let size = table::size(image["Size"].as_i64().unwrap_or(0));
        let tags: Vec<&str> =
            image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for tag in if tags.is_empty() { vec!["<none>:<none>"] } else { tags } {
            let (name, tag) = split_tag(tag);
            rows.push(vec![name.to_owned(), tag.to_owned(), id.clone(), created.clone(), size.clone()]);
        }
    }
    if quiet {
        rows.iter().for_each(|row| println!("{}", row[2]));
    } else {
        table::print(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows);
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
