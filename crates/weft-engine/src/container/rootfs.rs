//! The root file system of a container: an overlay of its image's layers and a directory of its own.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use crate::below::{fd_path, open_below};
use crate::error::EngineError;

/// What some kernels do by default: moved directories and changed attributes that are only noted in the upper directory.
/// An upper directory shall be whole by itself, for it is compared with its image and becomes a layer.
/// And an index: with it the kernel refuses an upper directory that a copy of the container's mount still holds.
const PLAIN: [&str; 3] = ["redirect_dir", "metacopy", "index"];

/// Directories of a container's own layer.
#[derive(Debug, Clone)]
pub(crate) struct RootFs {
    dir: PathBuf,
}

impl RootFs {
    pub(crate) fn new(container_dir: &Path) -> Self {
        Self { dir: container_dir.join("rootfs") }
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.dir.join("diff")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Where it is mounted.
    pub(crate) fn merged(&self) -> PathBuf {
        self.dir.join("merged")
    }

    /// Makes the directories.
    pub(crate) fn create(&self, lower: &[PathBuf]) -> Result<(), EngineError> {
        for dir in [self.upper(), self.work(), self.merged()] {
            fs::create_dir_all(&dir).map_err(EngineError::file("create", dir))?;
        }
        // The root directory of an overlay is the upper one: it looks as the image's.
        if let Some(metadata) = lower.first().and_then(|dir| fs::metadata(dir).ok()) {
            use std::os::unix::fs::MetadataExt;
            let upper = self.upper();
            std::os::unix::fs::chown(&upper, Some(metadata.uid()), Some(metadata.gid()))
                .and_then(|()| fs::set_permissions(&upper, metadata.permissions()))
                .map_err(EngineError::file("set attributes of", upper))?;
        }
        Ok(())
    }

    /// Mounts the overlay, `lower` uppermost first. One `lowerdir+` per layer: no limit of the option's length.
    pub(crate) fn mount(&self, lower: &[PathBuf]) -> Result<(), EngineError> {
        self.unmount()?;
        self.try_mount(lower).map_err(|error| EngineError::file("mount", self.merged())(error.into()))
    }

    fn try_mount(&self, lower: &[PathBuf]) -> Result<(), Errno> {
        if lower.is_empty() {
            return Err(Errno::NOENT);
        }
        match self.mount_layer_by_layer(lower) {
            // Linux before 6.7 does not know `lowerdir+`.
            Err(Errno::INVAL) => self.mount_in_one_call(lower),
            outcome => outcome,
        }
    }

    fn mount_layer_by_layer(&self, lower: &[PathBuf]) -> Result<(), Errno> {
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for dir in lower {
            fsconfig_set_string(&overlay, "lowerdir+", dir.as_path())?;
        }
        for option in PLAIN {
            fsconfig_set_string(&overlay, option, "off")?;
        }
        fsconfig_set_string(&overlay, "upperdir", self.upper().as_path())?;
        fsconfig_set_string(&overlay, "workdir", self.work().as_path())?;
        fsconfig_create(&overlay)?;
        let mounted = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        move_mount(&mounted, "", CWD, self.merged().as_path(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    /// The options are one text of at most a page. Open directories make it short, whatever their names are: more
    /// than 200 layers fit, and no name needs escaping.
    fn mount_in_one_call(&self, lower: &[PathBuf]) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |dir: &Path| rustix::fs::open(dir, flags, Mode::empty());
        let name = |dir: &OwnedFd| fd_path(dir).display().to_string();
        let layers = lower.iter().map(|dir| open(dir)).collect::<Result<Vec<_>, _>>()?;
        let (upper, work) = (open(&self.upper())?, open(&self.work())?);
        let names: Vec<String> = layers.iter().map(name).collect();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", names.join(":"), name(&upper), name(&work));
        let options = PLAIN.iter().fold(options, |options, option| format!("{options},{option}=off"));
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        mount("overlay", self.merged().as_path(), "overlay", MountFlags::empty(), options.as_c_str())
    }

    /// Unmounts it; not being mounted is no error.
    pub(crate) fn unmount(&self) -> Result<(), EngineError> {
        let merged = self.merged();
        loop {
            match unmount(&merged, UnmountFlags::DETACH) {
                // Mounts may lie on top of each other after a crash.
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
                Err(error) => return Err(EngineError::file("unmount", merged)(error.into())),
            }
        }
    }

    /// Makes a directory of the mounted root with its parents, never outside of it.
    pub(crate) fn make_directory(&self, path: &Path, owner: (u32, u32)) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.merged(), flags, Mode::empty())?;
        let mut so_far = PathBuf::from("/");
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let parent = open_in(&root, &so_far)?;
            so_far.push(name);
            match open_in(&root, &so_far) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
            let owner = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
            rustix::fs::chownat(
                &parent,
                name,
                Some(owner.0),
                Some(owner.1),
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(())
    }

    /// Copies what the image has at `path` into an empty new volume, as Docker fills volumes.
    pub(crate) fn fill_volume(&self, path: &Path, volume: &Path) -> io::Result<()> {
        if fs::read_dir(volume)?.next().is_some() {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.merged(), flags, Mode::empty())?;
        match open_in(&root, path) {
            Ok(source) => copy_tree(&fd_path(&source).join("."), volume),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn open_in(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    open_below(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Copies a directory's content and attributes; links are copied as links.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, symlink};
    let metadata = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, metadata.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&source)?;
        if metadata.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&source, &target)?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            std::os::unix::fs::lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        } else if metadata.is_file() {
            fs::copy(&source, &target)?;
            std::os::unix::fs::chown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
            fs::set_permissions(&target, metadata.permissions())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_without_single_layers_get_the_same_file_system() {
        let dir = tempfile::tempdir().unwrap();
        // A comma and a colon mean something in mount options.
        let lower: Vec<PathBuf> = (0..100).map(|n| dir.path().join(format!("layer,{n}:x"))).collect();
        for (n, layer) in lower.iter().enumerate() {
            fs::create_dir(layer).unwrap();
            fs::write(layer.join("who"), n.to_string()).unwrap();
            fs::write(layer.join(format!("only-{n}")), "").unwrap();
        }
        let rootfs = RootFs::new(dir.path());
        rootfs.create(&lower).unwrap();
        rootfs.mount_in_one_call(&lower).unwrap();
        let merged = rootfs.merged();
        let seen = (fs::read_to_string(merged.join("who")), merged.join("only-99").exists());
        let written = fs::write(merged.join("new"), "");
        rootfs.unmount().unwrap();
        assert_eq!((seen.0.unwrap().as_str(), seen.1), ("0", true));
        written.unwrap();
        assert!(rootfs.upper().join("new").exists());
    }
}
