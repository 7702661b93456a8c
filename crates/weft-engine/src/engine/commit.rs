//! An image of a container as it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Engine, Result};
use crate::byte_pipe::body_writer;
use crate::container::live::Container;
use crate::container::record::{Phase, Record};
use crate::error::EngineError;
use crate::files::pack::{Kind, write};
use crate::image::{Commit, RunConfig, commit_config, commit_name};
use crate::options::{ByteStream, CommitOptions};

impl Engine {
    /// Makes an image of a container; its id (`sha256:…`). Volumes are not in it.
    pub async fn commit(self: &Arc<Self>, term: &str, options: CommitOptions) -> Result<String> {
        let container = self.find(term)?;
        let engine = self.clone();
        // A task of its own: a client that goes away must not leave the container paused.
        let work = tokio::spawn(async move { engine.commit_paused(&container, options).await });
        work.await.map_err(|error| EngineError::Refused(format!("internal error: {error}")))?
    }

    async fn commit_paused(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: CommitOptions,
    ) -> Result<String> {
        let _operation = container.operation.lock().await;
        // Also `--rm` waits: half a tree would be an image like any other.
        let _removal = container.removal.lock().await;
        let record = container.record();
        if container.life.borrow().removed {
            return Err(EngineError::NoSuchContainer(record.id.to_string()));
        }
        if record.state.phase == Phase::Removing {
            let text = format!("You cannot commit container {} which is being removed", record.id);
            return Err(EngineError::Conflict(text));
        }
        let commit = commit(&record, &options)?;
        let name = commit.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let pause = options.pause && record.state.phase == Phase::Running && !record.state.paused;
        if pause {
            // Known before: a daemon that comes after a crash thaws it.
            container.update(|record| record.state.paused_by_commit = true)?;
            if let Err(error) = self.set_paused(container, true).await {
                container.note(|record| record.state.paused_by_commit = false);
                return Err(error);
            }
            self.suspend_health(container);
            self.container_event(container, "pause", &[]);
        }
        let image = self.commit_files(container, commit).await;
        if pause {
            self.thaw_after_commit(container).await;
        }
        let image = image?;
        let attributes = [("comment", options.comment), ("imageID", image.clone()), ("imageRef", name)];
        self.container_event(container, "commit", &attributes);
        Ok(image)
    }

    /// Ends the pause of a commit, also of one that a daemon before this one did not finish.
    pub(super) async fn thaw_after_commit(self: &Arc<Self>, container: &Arc<Container>) {
        if container.state().paused {
            if let Err(error) = self.set_paused(container, false).await {
                tracing::error!(container = %container.id, %error, "still paused after a commit");
            }
            self.resume_health(container);
            self.container_event(container, "unpause", &[]);
        }
        container.note(|record| record.state.paused_by_commit = false);
    }

    /// Lets commits that have paused their container come to their end: nobody would thaw it while the daemon is away.
    pub(super) async fn wait_for_commits(&self) {
        let limit = Duration::from_secs(self.config.shutdown_timeout);
        let ends = self.containers().into_iter().map(|container| async move {
            if !container.state().paused_by_commit {
                return;
            }
            if tokio::time::timeout(limit, container.operation.lock()).await.is_err() {
                tracing::warn!(container = %container.id, "a commit goes on too long: paused until the daemon is back");
            }
        });
        futures_util::future::join_all(ends).await;
    }

    async fn commit_files(&self, container: &Arc<Container>, commit: Commit) -> Result<String> {
        let is_changed = !self.changes(container.id.as_str()).await?.is_empty();
        let layer = is_changed.then(|| layer(container.rootfs().upper()));
        self.images.commit(commit, layer).await
    }
}

fn commit(record: &Record, options: &CommitOptions) -> Result<Commit> {
    let malformed = |error: serde_json::Error| EngineError::Invalid(format!("invalid JSON: {error}"));
    let given: RunConfig = match &options.config {
        Some(config) => serde_json::from_value(config.clone()).map_err(malformed)?,
        None => RunConfig::default(),
    };
    let own = serde_json::to_value(&record.config).and_then(serde_json::from_value).map_err(malformed)?;
    Ok(Commit {
        name: commit_name(&options.repo, &options.tag)?,
        parent: Some(record.image.clone()),
        config: commit_config(given, &options.changes, own)?,
        author: options.author.clone(),
        comment: options.comment.clone(),
        command: record.config.cmd.clone().unwrap_or_default().join(" "),
    })
}

/// An archive of an upper directory.
fn layer(upper: PathBuf) -> ByteStream {
    let (writer, stream) = body_writer();
    tokio::task::spawn_blocking(move || {
        write(writer, Kind::Layer, |packer| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            packer.root(&openat(CWD, &upper, flags, Mode::empty())?)
        });
    });
    stream
}
