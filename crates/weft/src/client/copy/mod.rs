//! `cp`: files and folders between this machine and a container, by docker's rules.

mod local;
mod place;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use futures_util::TryStreamExt as _;
use http_body_util::BodyDataStream;
use hyper::Response;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::connection::{Call, Daemon, escape};
use super::error::{ClientError, Outcome};
use super::files::download;
use super::table;
use place::{Destination, Place, Source};

/// What is at a path of a container, as JSON in base64.
const STAT_HEADER: &str = "X-Docker-Container-Path-Stat";
/// Go's bits of a mode.
const MODE_DIR: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;
/// Pieces of an archive on their way.
const PIECES: usize = 16;

#[derive(Debug, Args)]
pub(super) struct Copy {
    /// CONTAINER:PATH, a path of this machine, or - for a tar archive on standard input
    from: String,
    /// A path of this machine, CONTAINER:PATH, or - for a tar archive on standard output
    to: String,
    /// Keep owners: into a container, everything becomes its user's
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not tell how much it was
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stat {
    mode: u32,
    #[serde(default)]
    link_target: String,
}

impl Copy {
    pub(super) async fn execute(&self, daemon: &Daemon) -> Outcome {
        match (Place::parse(&self.from), Place::parse(&self.to)) {
            (Place::Container { name, path }, Place::Local(to)) => {
                self.fetch(daemon, &name, &path, &to).await
            }
            (Place::Local(from), Place::Container { name, path }) => {
                self.send(daemon, &from, &name, &path).await
            }
            (Place::Container { .. }, Place::Container { .. }) => {
                Err(ClientError::Usage("copying between containers is not supported".to_owned()))
            }
            (Place::Local(_), Place::Local(_)) => {
                Err(ClientError::Usage("must specify at least one container source".to_owned()))
            }
        }
    }

    async fn fetch(&self, daemon: &Daemon, name: &str, path: &str, to: &str) -> Outcome {
        let call = |path: &str| Call::get(archive(name)).query("path", path);
        if to == "-" {
            return download(daemon.call(call(path)).await?, None).await;
        }
        let mut source = Source { path: path.to_owned(), is_dir: false, name: None };
        if self.follow_link
            && let Some(stat) = stat(daemon, name, path).await?
            && stat.mode & MODE_SYMLINK != 0
        {
            source.follow(&stat.link_target);
        }
        let response = daemon.call(call(&source.path)).await?;
        source.is_dir = stat_of(&response)?.mode & MODE_DIR != 0;
        let destination = Destination::local(to)?;
        let root = source.at(&destination, to)?;
        let (entry, keep_owners) = (source.entry().to_owned(), self.archive);
        let (pieces, reader) = local::channel(PIECES);
        let unpack = move || local::unpack(reader, &entry, &root, keep_owners);
        let unpacking = tokio::task::spawn_blocking(unpack);
        let mut body = BodyDataStream::new(response.into_body());
        while let Some(piece) = body.try_next().await? {
            // Who no longer takes anything says why below.
            if pieces.send(Ok(piece)).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let bytes = unpacking.await.map_err(std::io::Error::other)??;
        self.tell(bytes, to);
        Ok(0)
    }

    async fn send(&self, daemon: &Daemon, from: &str, name: &str, path: &str) -> Outcome {
        let destination = destination(daemon, name, path).await?;
        let call = |path: &str| {
            let call = Call::put(archive(name)).query("path", path).query("noOverwriteDirNonDir", true);
            call.query_if(self.archive, "copyUIDGID", true)
        };
        if from == "-" {
            if !destination.is_dir() {
                return Err(ClientError::Usage(format!("destination \"{name}:{path}\" must be a directory")));
            }
            let body = ReaderStream::new(tokio::io::stdin());
            daemon.call(call(&destination.path).stream_body(body)).await?;
            return Ok(0);
        }
        let source = Source::local(from, self.follow_link)?;
        let (folder, entry) = source.path_at(&destination)?;
        let (sender, mut pieces) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(PIECES);
        let local_path = PathBuf::from(&source.path);
        let packing =
            tokio::task::spawn_blocking(move || local::pack(&local_path, Path::new(&entry), sender));
        let body = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
        let outcome = daemon.call(call(&folder).stream_body(body)).await;
        let bytes = packing.await.map_err(std::io::Error::other)?;
        outcome?;
        self.tell(bytes?, &format!("{name}:{path}"));
        Ok(0)
    }

    /// For people only, as docker.
    fn tell(&self, bytes: u64, to: &str) {
        if !self.quiet && std::io::stderr().is_terminal() {
            let size = table::size(i64::try_from(bytes).unwrap_or(i64::MAX));
            eprintln!("Successfully copied {size} to {to}");
        }
    }
}

fn archive(container: &str) -> String {
    format!("/containers/{}/archive", escape(container))
}

/// What is at a path of a container; none: nothing.
async fn stat(daemon: &Daemon, name: &str, path: &str) -> Result<Option<Stat>, ClientError> {
    match daemon.call(Call::head(archive(name)).query("path", path)).await {
        Ok(response) => stat_of(&response).map(Some),
        Err(ClientError::Daemon { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn stat_of(response: &Response<Incoming>) -> Result<Stat, ClientError> {
    let header =
        response.headers().get(STAT_HEADER).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
    let bytes = STANDARD.decode(header).map_err(|_| missing())?;
    serde_json::from_slice(&bytes).map_err(|_| missing())
}

fn missing() -> ClientError {
    ClientError::Usage(format!("the daemon's answer has no readable header {STAT_HEADER}"))
}

/// Follows a link at the very place, as a file that is there is written through it.
async fn destination(daemon: &Daemon, name: &str, path: &str) -> Result<Destination, ClientError> {
    let mut path = path.to_owned();
    let mut found = stat(daemon, name, &path).await?;
    if let Some(link) = found.as_ref().filter(|stat| stat.mode & MODE_SYMLINK != 0) {
        path = place::target_of(&path, &link.link_target);
        found = stat(daemon, name, &path).await?;
    }
    Ok(Destination { path, found: found.map(|stat| stat.mode & MODE_DIR != 0) })
}
