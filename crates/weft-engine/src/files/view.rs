//! A container's files as a place of their own: its root file system with its volumes and binds on it, running or not.
//!
//! The place is a mount namespace of one thread. The kernel takes it apart when the thread ends, also after a crash, and
//! nothing of it is seen elsewhere: not by the container, and not by the daemon. Temporary file systems of a running
//! container are not in it, nor `/proc` and `/sys`; so it is with Docker.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mknodat, openat, statat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use tokio::sync::oneshot;

use super::namespace;
use crate::below::{fd_path, open_below};
use crate::container::record::{MountKind, MountRecord, Record};
use crate::container::rootfs::RootFs;
use crate::error::EngineError;
use crate::files::turn::Turn;
use crate::volumes::LocalMount;

type Result<T> = std::result::Result<T, EngineError>;

/// What a view is made of.
pub(crate) struct Plan {
    pub(crate) rootfs: RootFs,
    /// Layers of the image, uppermost first.
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) mounts: Vec<MountRecord>,
    /// Content of volumes that no running container has mounted.
    pub(crate) volumes: Vec<LocalMount>,
    /// What is in no volume cannot be changed.
    pub(crate) readonly: bool,
    /// Held as long as there is the view: the container's root is mounted in one place at a time.
    pub(crate) turn: Turn,
}

impl Plan {
    /// What lies on the root: volumes, binds, and the files of `/etc` while it runs.
    pub(crate) fn mounts(record: &Record) -> Vec<MountRecord> {
        let sandbox = record.sandbox.clone().unwrap_or_default();
        let files = [
            ("/etc/resolv.conf", sandbox.resolv_conf),
            ("/etc/hostname", sandbox.hostname),
            ("/etc/hosts", sandbox.hosts),
        ];
        let files = files.into_iter().filter_map(|(destination, source)| {
            let mount = MountRecord::new(MountKind::Bind, destination.into());
            Some(MountRecord { source: source?, ..mount })
        });
        let own = record.mounts.iter().filter(|mount| mount.kind != MountKind::Tmpfs).cloned();
        files
            .filter(|file| record.mounts.iter().all(|mount| mount.destination != file.destination))
            .chain(own)
            .collect()
    }

    /// Does `work` in the view, on a thread of its own. Who does not wait for the end does not end it.
    fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&View) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (sender, receiver) = oneshot::channel();
        let thread = move || {
            let result = self.own_namespace().and_then(|()| {
                let result = self.build().and_then(|view| work(&view));
                // Now, and not some time after the thread: the next one mounts the same directories.
                let _ = unmount(self.rootfs.merged(), UnmountFlags::DETACH);
                result
            });
            drop(self.turn);
            let _ = sender.send(result);
        };
        std::thread::Builder::new()
            .name("weft-files".to_owned())
            .spawn(thread)
            .map_err(EngineError::file("start a thread for", "files"))?;
        Ok(receiver)
    }

    /// Does `work` in the view, and waits until it says that it is ready, or has failed before. The rest goes on by itself.
    pub(crate) async fn run_until_ready<T: Send + 'static>(
        self,
        work: impl FnOnce(&View, oneshot::Sender<T>) -> Result<()> + Send + 'static,
    ) -> Result<T> {
        let (sender, ready) = oneshot::channel();
        let end = self.run(move |view| work(view, sender))?;
        match ready.await {
            Ok(ready) => Ok(ready),
            Err(_) => Err(match end.await {
                Ok(Err(error)) => error,
                _ => not_read(),
            }),
        }
    }

    /// Does `work` in the view and waits for it.
    pub(crate) async fn run_to_end<T: Send + 'static>(
        self,
        work: impl FnOnce(&View) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(work)?.await.map_err(|_| not_read())?
    }

    fn own_namespace(&self) -> Result<()> {
        namespace::enter().map_err(EngineError::file("look apart at", self.rootfs.merged()))
    }

    fn build(&self) -> Result<View> {
        let merged = self.rootfs.merged();
        let is_mounted = has_mount(&merged).map_err(EngineError::file("read", &merged))?;
        if is_mounted {
            // It stays here when the container ends meanwhile.
            mount_change(&merged, MountPropagationFlags::PRIVATE)
                .map_err(|error| EngineError::file("look apart at", &merged)(error.into()))?;
        } else {
            self.rootfs.mount(&self.lower)?;
        }
        let view = View::open(&merged)?;
        for volume in &self.volumes {
            volume.mount().map_err(|error| EngineError::Refused(error.to_string()))?;
        }
        for mount in &self.mounts {
            self.place(&view, mount, is_mounted)?;
        }
        namespace::detach_others(&view.name).map_err(EngineError::file("look apart at", &merged))?;
        if self.readonly {
            mount_remount(&merged, MountFlags::BIND | MountFlags::RDONLY, "")
                .map_err(|error| EngineError::file("mount", merged)(error.into()))?;
        }
        Ok(view)
    }

    /// Puts a volume or bind where it belongs.
    fn place(&self, view: &View, mount: &MountRecord, is_running: bool) -> Result<()> {
        let failed = |error: Errno| EngineError::file("mount", &mount.destination)(error.into());
        let Ok(source) = std::fs::metadata(&mount.source) else {
            // A bind whose source nobody has made yet: it is at the first start.
            return Ok(());
        };
        let destination = &mount.destination;
        if mount.kind == MountKind::Volume && !mount.no_copy && !is_running {
            self.rootfs
                .fill_volume(destination, &mount.source)
                .map_err(EngineError::file("fill", &mount.source))?;
        }
        self.make_mount_point(view, destination, source.is_dir())
            .map_err(EngineError::file("create", destination))?;
        // Paths lead through descriptors: the container cannot change any more where they end.
        let below = view.open_path(destination).map_err(failed)?;
        let bind = if mount.non_recursive {
            mount_bind(&mount.source, fd_path(&below))
        } else {
            mount_bind_recursive(&mount.source, fd_path(&below))
        };
        bind.map_err(failed)?;
        if mount.writable {
            return Ok(());
        }
        let bound = view.open_path(destination).map_err(failed)?;
        mount_remount(fd_path(&bound), MountFlags::BIND | MountFlags::RDONLY, "").map_err(failed)
    }

    fn make_mount_point(&self, view: &View, destination: &Path, is_directory: bool) -> std::io::Result<()> {
        if is_directory {
            return self.rootfs.make_directory(destination, (0, 0));
        }
        if view.open_path(destination).is_ok() {
            return Ok(());
        }
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Ok(());
        };
        self.rootfs.make_directory(parent, (0, 0))?;
        let parent = view.open_directory(parent)?;
        match mknodat(&parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn not_read() -> EngineError {
    EngineError::Refused("internal error: files not read".to_owned())
}

fn has_mount(dir: &Path) -> std::io::Result<bool> {
    let parent = dir.parent().unwrap_or(Path::new("/"));
    Ok(std::fs::symlink_metadata(dir)?.dev() != std::fs::symlink_metadata(parent)?.dev())
}

/// A container's root. Paths are the container's; none leads out of it.
pub(crate) struct View {
    root: OwnedFd,
    /// As the kernel names it.
    name: PathBuf,
}

impl View {
    /// Of a directory.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let open = || -> std::io::Result<Self> {
            let root =
                openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let name = std::fs::read_link(fd_path(&root))?;
            Ok(Self { root, name })
        };
        open().map_err(EngineError::file("open", root))
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        open_below(&self.root, path, flags)
    }

    /// Anything, without access to its content; links are followed.
    pub(crate) fn open_path(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH)
    }

    /// A directory; links are followed.
    pub(crate) fn open_directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The path without links of what is open.
    pub(crate) fn path_of(&self, fd: &OwnedFd) -> Option<PathBuf> {
        let path = std::fs::read_link(fd_path(fd)).ok()?;
        Some(Path::new("/").join(path.strip_prefix(&self.name).ok()?))
    }

    /// Where a link leads, as it is written; `None` for what is no link.
    pub(crate) fn read_link(&self, path: &Path) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let parent = self.resolve(path.parent()?, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let target = rustix::fs::readlinkat(&parent, path.file_name()?, Vec::new()).ok()?;
        Some(std::ffi::OsString::from_vec(target.into_bytes()).into())
    }

    /// What a path is; the last link is not followed.
    pub(crate) fn stat(&self, path: &Path) -> rustix::io::Result<rustix::fs::Stat> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                let parent = self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY)?;
                statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
            }
            _ => rustix::fs::fstat(&self.root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/file"), "inside").unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/file"), "outside").unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        link("../../../../etc", "up");
        link("/etc", "absolute");
        link("/proc/self/root", "magic");
        let view = View::open(&root).unwrap();
        for path in ["/up/file", "/absolute/file", "/../etc/file", "/etc/../../etc/file"] {
            let fd = view.open_path(Path::new(path)).unwrap();
            assert_eq!(view.path_of(&fd).unwrap(), Path::new("/etc/file"), "{path}");
        }
        assert_eq!(view.open_path(Path::new("/magic")).unwrap_err(), Errno::NOENT);
        assert_eq!(view.read_link(Path::new("/up")).unwrap(), Path::new("../../../../etc"));
        assert_eq!(view.read_link(Path::new("/etc")), None);
    }
}
