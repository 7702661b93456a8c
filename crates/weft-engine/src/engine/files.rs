//! Copying files from and to containers, and their whole trees.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::{Engine, Result};
use crate::byte_pipe::{BodyWriter, body_reader, body_writer};
use crate::container::live::Container;
use crate::container::record::{MountKind, MountRecord, Phase, Record};
use crate::error::EngineError;
use crate::files::changes::{Change, changes};
use crate::files::pack::{Kind, Packer, write};
use crate::files::path::{End, PathStat, Wanted};
use crate::files::view::{Plan, View};
use crate::image::{Unpacking, unpack_into};
use crate::options::{ByteStream, ExtractOptions};
use crate::volumes::LocalMount;

impl Engine {
    /// What is at a path of a container.
    pub async fn path_stat(self: &Arc<Self>, term: &str, path: &str) -> Result<PathStat> {
        let container = self.find(term)?;
        let plan = self.plan(&container, term, true).await?;
        let (term, path) = (term.to_owned(), path.to_owned());
        plan.run_to_end(move |view| stat(view, &term, &path).map(|(_, stat)| stat)).await
    }

    /// A tar archive of what is at a path of a container: a file, a link itself, or a directory with all that is in it.
    pub async fn archive(self: &Arc<Self>, term: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let container = self.find(term)?;
        let plan = self.plan(&container, term, true).await?;
        let (writer, stream) = body_writer();
        let writer = writer.until(plan.turn.stop.clone());
        let (own_term, own_path) = (term.to_owned(), path.to_owned());
        // Goes on by itself until the archive is read or nobody reads it any more.
        let work = move |view: &View, ready: oneshot::Sender<PathStat>| {
            let (wanted, stat) = stat(view, &own_term, &own_path)?;
            if ready.send(stat).is_ok() {
                write(writer, Kind::Tree, |packer| pack(packer, view, &wanted));
            }
            Ok(())
        };
        let stat = plan.run_until_ready(work).await?;
        self.container_event(&container, "archive-path", &[]);
        Ok((stat, stream))
    }

    /// Unpacks a tar archive into a directory of a container.
    pub async fn extract(
        self: &Arc<Self>,
        term: &str,
        path: &str,
        options: ExtractOptions,
        body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<()> {
        let container = self.find(term)?;
        let plan = self.plan(&container, term, true).await?;
        let (mounts, readonly) = (plan.mounts.clone(), plan.readonly);
        let user = container.with(|record| record.config.user.clone()).filter(|user| !user.is_empty());
        let user = user.filter(|_| options.copy_uid_gid);
        let (reader, merged) = (body_reader(body).until(plan.turn.stop.clone()), plan.rootfs.merged());
        let (term, path) = (term.to_owned(), path.to_owned());
        plan.run_to_end(move |view| {
            let place = directory(view, &term, &path)?;
            check_writable(&place, &mounts, readonly)?;
            let owner = user.map(|user| crate::spec::user::resolve(&merged, &user, &[])).transpose()?;
            let unpacking = Unpacking::Copy {
                keep_kinds: options.no_overwrite_dir_non_dir,
                owner: owner.map(|user| (user.uid, user.gid)),
            };
            unpack_into(reader, view.root(), &place, unpacking)
        })
        .await?;
        self.container_event(&container, "extract-to-dir", &[]);
        Ok(())
    }

    /// A tar archive of a container's whole tree, without its volumes.
    pub async fn export(self: &Arc<Self>, term: &str) -> Result<ByteStream> {
        let container = self.find(term)?;
        if container.state().phase == Phase::Removing {
            let text = format!("You cannot export container {} which is being removed", container.id);
            return Err(EngineError::Conflict(text));
        }
        let plan = self.plan(&container, term, false).await?;
        let (writer, stream) = body_writer();
        let writer = writer.until(plan.turn.stop.clone());
        let work = move |view: &View, ready: oneshot::Sender<()>| {
            if ready.send(()).is_ok() {
                write(writer, Kind::Tree, |packer| packer.content(view.root(), b""));
            }
            Ok(())
        };
        plan.run_until_ready(work).await?;
        self.container_event(&container, "export", &[]);
        Ok(stream)
    }

    /// What a container has changed in its image's tree; volumes do not count.
    pub async fn changes(&self, term: &str) -> Result<Vec<Change>> {
        let container = self.find(term)?;
        let upper = container.rootfs().upper();
        let lower = self.images.lower_directories(&container.with(|record| record.layers.clone()));
        super::blocking(move || changes(&upper, &lower).map_err(EngineError::file("compare", upper))).await
    }

    /// Waits until nobody else has the container's files mounted.
    async fn plan(
        self: &Arc<Self>,
        container: &Arc<Container>,
        term: &str,
        with_mounts: bool,
    ) -> Result<Plan> {
        let turn = container.files.copy().await;
        if container.life.borrow().removed {
            return Err(EngineError::NoSuchContainer(term.to_owned()));
        }
        if container.state().phase == Phase::Removing {
            return Err(EngineError::Conflict(format!("container {} is being removed", container.id)));
        }
        if turn.stop.is_cancelled() {
            return Err(EngineError::Conflict(format!("container {} is being started", container.id)));
        }
        let record = container.record();
        let volumes = match with_mounts {
            true => self.absent_volumes(&record).await?,
            false => Vec::new(),
        };
        Ok(Plan {
            rootfs: container.rootfs(),
            lower: self.images.lower_directories(&record.layers),
            mounts: if with_mounts { Plan::mounts(&record) } else { Vec::new() },
            volumes,
            readonly: record.host.readonly_rootfs == Some(true),
            turn,
        })
    }

    /// What to mount of its volumes, since no running container has.
    async fn absent_volumes(self: &Arc<Self>, record: &Record) -> Result<Vec<LocalMount>> {
        let (engine, mounts) = (self.clone(), record.mounts.clone());
        super::blocking(move || {
            let volumes = mounts.iter().filter(|mount| mount.kind == MountKind::Volume);
            volumes.filter_map(|volume| engine.volumes.absent(&volume.name).transpose()).collect()
        })
        .await
    }
}

fn pack(packer: &mut Packer<BodyWriter>, view: &View, wanted: &Wanted) -> io::Result<()> {
    let (path, name) = (&wanted.path, wanted.name());
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(file)) if wanted.end == End::Name => {
            packer.entry(&view.open_directory(parent)?, file, name.as_bytes())
        }
        _ => packer.directory(&view.open_directory(path)?, name.as_bytes()),
    }
}

fn stat(view: &View, term: &str, path: &str) -> Result<(Wanted, PathStat)> {
    let wanted = Wanted::parse(path);
    let stat = wanted.stat(view).map_err(|error| path_error("lstat", term, path, error))?;
    Ok((wanted, stat))
}

fn path_error(action: &'static str, term: &str, path: &str, error: Errno) -> EngineError {
    match error {
        Errno::NOENT => EngineError::NoSuchFile { path: path.to_owned(), container: term.to_owned() },
        Errno::NOTDIR => EngineError::Refused(format!("{action} {path}: not a directory")),
        error => EngineError::file(action, path)(error.into()),
    }
}

/// The path without links of a directory to unpack into.
fn directory(view: &View, term: &str, path: &str) -> Result<PathBuf> {
    let wanted = Wanted::parse(path);
    let place = view.open_path(&wanted.path).map_err(|error| path_error("lstat", term, path, error))?;
    let is_directory = rustix::fs::fstat(&place).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
    });
    if !is_directory {
        return Err(EngineError::Invalid("extraction point is not a directory".to_owned()));
    }
    view.path_of(&place)
        .ok_or_else(|| EngineError::NoSuchFile { path: path.to_owned(), container: term.to_owned() })
}

/// The view itself is read-only where these refusals say so; they are there for their words.
fn check_writable(place: &Path, mounts: &[MountRecord], readonly: bool) -> Result<()> {
    let over =
        mounts.iter().filter(|mount| mount.kind != MountKind::Tmpfs && place.starts_with(&mount.destination));
    match over.max_by_key(|mount| mount.destination.components().count()) {
        Some(mount) if !mount.writable => {
            Err(EngineError::Invalid("mounted volume is marked read-only".to_owned()))
        }
        None if readonly => Err(EngineError::Invalid("container rootfs is marked read-only".to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_says_whether_it_is_writable() {
        let mount = |destination: &str, writable| MountRecord {
            writable,
            ..MountRecord::new(MountKind::Volume, destination.into())
        };
        let mounts = [mount("/data", false), mount("/data/own", true)];
        let text = |place: &str, readonly| {
            check_writable(Path::new(place), &mounts, readonly).map_err(|error| error.to_string())
        };
        assert_eq!(text("/data/x", false), Err("mounted volume is marked read-only".to_owned()));
        assert_eq!(text("/data/own/x", true), Ok(()));
        assert_eq!(text("/database", false), Ok(()));
        assert_eq!(text("/database", true), Err("container rootfs is marked read-only".to_owned()));
    }
}
