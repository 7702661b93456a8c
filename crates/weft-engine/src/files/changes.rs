//! What a container has changed: its own layer compared with the image's.
//!
//! The own layer belongs to the container, so it is read through directories that are held open. The image's layers
//! change for nobody.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, lgetxattr, openat, statat};
use rustix::io::Errno;
use serde::{Serialize, Serializer};

use super::pack::{is_opaque, names};
use crate::image::MAX_DEPTH;

/// What the runtime makes to mount something on. Docker has these in a layer of its own below the container's, where
/// they are no change; here they are none as long as they are empty.
const MOUNT_POINTS: [&str; 14] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sbin",
    "/sbin/docker-init",
    "/sys",
];

/// Whether a path of an upper directory, relative to it, is where the runtime mounts something.
pub(super) fn is_runtimes_own(path: &[u8]) -> bool {
    MOUNT_POINTS.iter().any(|made| made.as_bytes().strip_prefix(b"/") == Some(path))
}

/// A path of a container that is not as in its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// Absolute.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path. The numbers are those of Docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another than in the image.
    Modified = 0,
    /// The image does not have it.
    Added = 1,
    /// Only the image has it.
    Deleted = 2,
}

impl Serialize for ChangeKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

/// Compares an overlay's upper directory with its lower ones, uppermost first. In the order of names.
pub(crate) fn changes(upper: &Path, lower: &[PathBuf]) -> io::Result<Vec<Change>> {
    let upper = openat(CWD, upper, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut comparison = Comparison::default();
    comparison.directory(&upper, lower, Path::new("/"), false, 0)?;
    Ok(comparison.changes)
}

/// What the lower directories have under a name.
struct Below {
    /// What is seen of it.
    seen: Option<Metadata>,
    /// Directories that together are it.
    directories: Vec<PathBuf>,
}

fn below(lower: &[PathBuf], name: &OsStr) -> Below {
    let mut found = Below { seen: None, directories: Vec::new() };
    for path in lower.iter().map(|dir| dir.join(name)) {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let is_directory = metadata.is_dir();
        if metadata.file_type().is_char_device() && metadata.rdev() == 0
            || found.seen.is_some() && !is_directory
        {
            break;
        }
        found.seen.get_or_insert(metadata);
        if !is_directory {
            break;
        }
        let mut value = [0; 4];
        let opaque = lgetxattr(&path, "trusted.overlay.opaque", value.as_mut_slice())
            .is_ok_and(|length| value[..length] == *b"y");
        found.directories.push(path);
        if opaque {
            break;
        }
    }
    found
}

#[derive(Default)]
struct Comparison {
    changes: Vec<Change>,
}

impl Comparison {
    fn add(&mut self, path: &Path, kind: ChangeKind) {
        self.changes.push(Change { path: path.to_string_lossy().into_owned(), kind });
    }

    /// Compares what is in a directory; whether anything in it was passed over as a mount point. `hidden`: what lies
    /// below cannot be seen any more, so that what is not here is deleted.
    fn directory(
        &mut self,
        upper: &OwnedFd,
        lower: &[PathBuf],
        path: &Path,
        hidden: bool,
        depth: usize,
    ) -> io::Result<bool> {
        if depth > MAX_DEPTH {
            let text = format!("directories too deep: {}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let own = names(upper)?;
        let mut all = own.clone();
        if hidden {
            let entries = lower.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
            all.extend(entries.map(|entry| entry.file_name()));
            all.sort_unstable();
            all.dedup();
        }
        let mut passed_over = false;
        for name in all {
            let (child, below) = (path.join(&name), below(lower, &name));
            if own.binary_search(&name).is_ok() {
                passed_over |= self.entry(upper, &name, &child, &below, hidden, depth)?;
            } else if below.seen.is_some() {
                self.add(&child, ChangeKind::Deleted);
            }
        }
        Ok(passed_over)
    }

    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        below: &Below,
        hidden: bool,
        depth: usize,
    ) -> io::Result<bool> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            result => result?,
        };
        let kind = if below.seen.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        let relative = path.strip_prefix("/").unwrap_or(path);
        let is_runtimes_own = is_runtimes_own(relative.as_os_str().as_bytes());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                if below.seen.is_some() {
                    self.add(path, ChangeKind::Deleted);
                }
            }
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let Ok(directory) = openat(parent, name, flags, Mode::empty()) else { return Ok(false) };
                let at = self.changes.len();
                self.add(path, kind);
                let hidden = hidden || is_opaque(&directory);
                let passed_over = self.directory(&directory, &below.directories, path, hidden, depth + 1)?;
                let alone = self.changes.len() == at + 1;
                let unchanged = match below.seen.as_ref().filter(|seen| seen.is_dir()) {
                    // Of a directory in which there are new mount points only the time has changed.
                    Some(seen) => is_same(seen, &fstat(&directory)?, passed_over && alone),
                    None => is_runtimes_own && alone,
                };
                if unchanged {
                    self.changes.remove(at);
                }
                return Ok(unchanged && is_runtimes_own);
            }
            FileType::RegularFile if is_runtimes_own && kind == ChangeKind::Added && stat.st_size == 0 => {
                return Ok(true);
            }
            _ => self.add(path, kind),
        }
        Ok(false)
    }
}

/// Whether a directory is as in the image: it is in the upper one already when something in it has changed.
fn is_same(seen: &Metadata, stat: &Stat, whatever_time: bool) -> bool {
    let same_time = (seen.mtime(), seen.mtime_nsec()) == (stat.st_mtime, stat.st_mtime_nsec as i64);
    seen.mode() == stat.st_mode
        && (seen.uid(), seen.gid()) == (stat.st_uid, stat.st_gid)
        && (whatever_time || same_time)
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
