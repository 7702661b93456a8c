//! Unpacks a layer archive into a directory of its own, for use as one lower directory of an overlay; and what users copy
//! into containers, below a directory of the container's root.
//!
//! Nothing in an archive is trusted. Every parent directory is resolved by the kernel with `RESOLVE_IN_ROOT`, so that
//! neither `..` nor symbolic links of this or an earlier entry lead out of the directory; the last component is then
//! made relative to that parent without following links. Names with `..` are refused outright, as Docker does.
//!
//! Whiteouts (OCI image-spec `layer.md`) become overlayfs': `.wh.x` a character device 0:0 named `x`,
//! `.wh..wh..opq` the attribute `trusted.overlay.opaque`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fsetxattr,
    linkat, lsetxattr, mkdirat, mknodat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use crate::below::{fd_path, open_below};

/// The deepest path that is unpacked; deeper ones only occur in attacks on recursive code.
pub(crate) const MAX_DEPTH: usize = 256;

/// An archive that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error("archive/tar: invalid tar header")]
    Archive(#[source] io::Error),
    #[error("unexpected EOF")]
    Truncated,
    #[error("invalid path in archive: {0:?}")]
    Path(PathBuf),
    #[error("invalid hard link in archive: {0:?}")]
    Link(PathBuf),
    /// Docker's words.
    #[error("cannot overwrite {there} {path:?} with {new} {base:?}")]
    Kind { there: &'static str, path: PathBuf, new: &'static str, base: PathBuf },
    #[error("unpack {path:?}: {source}")]
    Entry { path: PathBuf, source: io::Error },
}

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpacking {
    /// A layer: its whiteouts mean something.
    Layer,
    /// Files that somebody copies to where others are.
    Copy {
        /// No directory makes way for something else, nor the other way round.
        keep_kinds: bool,
        /// Whose everything becomes, whatever the archive says.
        owner: Option<(u32, u32)>,
    },
}

/// Unpacks `archive` below `root`, which exists and is empty; the number of bytes in regular files.
pub(crate) fn unpack(archive: impl Read, root: &Path) -> Result<u64, LayerError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entry_error = |source: Errno| LayerError::Entry { path: root.to_owned(), source: source.into() };
    let root_fd = rustix::fs::openat(CWD, root, flags, Mode::empty()).map_err(entry_error)?;
    unpack_below(archive, &root_fd, Path::new(""), Unpacking::Layer)
}

/// Unpacks `archive` into the directory `base` of `root`. Links are followed, and never lead out of `root`.
pub(crate) fn unpack_below(
    archive: impl Read,
    root: &OwnedFd,
    base: &Path,
    unpacking: Unpacking,
) -> Result<u64, LayerError> {
    let base = normalize(base)?;
    let mut unpacker = Unpacker { root, base, unpacking, directory_times: Vec::new(), size: 0 };
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(classify)? {
        unpacker.entry(&mut entry.map_err(classify)?)?;
    }
    unpacker.set_directory_times();
    Ok(unpacker.size)
}

fn classify(error: io::Error) -> LayerError {
    if is_truncated(&error) { LayerError::Truncated } else { LayerError::Archive(error) }
}

/// Whether an archive ends too early; the reading library has kinds of its own only for some of these errors.
pub(super) fn is_truncated(error: &io::Error) -> bool {
    let text = error.to_string();
    error.kind() == io::ErrorKind::UnexpectedEof
        || text.contains("unexpected EOF")
        || text.contains("failed to read entire block")
}

struct Unpacker<'a> {
    root: &'a OwnedFd,
    /// Where in the root.
    base: PathBuf,
    unpacking: Unpacking,
    /// Set last: unpacking into a directory changes its time.
    directory_times: Vec<(PathBuf, i64)>,
    size: u64,
}

/// The normal components of an archive path; leading `/` and `.` are dropped.
fn normalize(path: &Path) -> Result<PathBuf, LayerError> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(LayerError::Path(path.to_owned())),
        }
    }
    if clean.components().count() > MAX_DEPTH || path.as_os_str().as_bytes().contains(&0) {
        return Err(LayerError::Path(path.to_owned()));
    }
    Ok(clean)
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), LayerError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink) {
            return Ok(());
        }
        let path = normalize(&entry.path().map_err(classify)?)?;
        let failed = |source: io::Error| LayerError::Entry { path: path.clone(), source };
        let Some(name) = path.file_name() else {
            // The root itself; where somebody copies to stays as it is.
            return match self.unpacking {
                Unpacking::Layer => self.attributes_of_root(entry).map_err(failed),
                Unpacking::Copy { .. } => Ok(()),
            };
        };
        let parent = self.open_parent(path.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        if let (Some(hidden), Unpacking::Layer) = (name.as_bytes().strip_prefix(b".wh."), self.unpacking) {
            return whiteout(&parent, hidden).map_err(failed);
        }
        self.check_kind(&parent, &path, kind)?;
        if !self.make_room(&parent, name, kind).map_err(failed)? {
            self.make(entry, &parent, &path, kind)?;
        }
        if kind == EntryType::Link {
            return Ok(());
        }
        self.attributes(entry, &parent, &path, kind).map_err(failed)
    }

    /// Opens a directory below the root, making what is missing of it.
    fn open_parent(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open_directory(path) {
            Err(Errno::NOENT) => {}
            result => return result.map_err(Into::into),
        }
        let mut so_far = PathBuf::new();
        for component in path.components() {
            let parent = self.open_directory(&so_far)?;
            match mkdirat(&parent, component.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            so_far.push(component);
        }
        Ok(self.open_directory(path)?)
    }

    fn open_directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = Path::new(".").join(&self.base).join(path);
        open_below(self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Refuses to put something else in the place of a directory, and a directory in the place of something else.
    fn check_kind(&self, parent: &OwnedFd, path: &Path, kind: EntryType) -> Result<(), LayerError> {
        if !matches!(self.unpacking, Unpacking::Copy { keep_kinds: true, .. }) {
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default();
        let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        let is_there = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let is_new = kind == EntryType::Directory;
        if is_there == is_new {
            return Ok(());
        }
        let word = |is_directory| if is_directory { "directory" } else { "non-directory" };
        let base = Path::new("/").join(&self.base);
        Err(LayerError::Kind { there: word(is_there), path: base.join(path), new: word(is_new), base })
    }

    /// Removes what is in the way; whether a directory may stay as it is.
    fn make_room(&self, parent: &OwnedFd, name: &std::ffi::OsStr, kind: EntryType) -> io::Result<bool> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            unlinkat(parent, name, AtFlags::empty())?;
            return Ok(false);
        }
        if kind == EntryType::Directory {
            return Ok(true);
        }
        remove_tree(parent, Path::new(name))?;
        Ok(false)
    }

    fn make(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        parent: &OwnedFd,
        path: &Path,
        kind: EntryType,
    ) -> Result<(), LayerError> {
        let failed = |source: io::Error| LayerError::Entry { path: path.to_owned(), source };
        let name = path.file_name().unwrap_or_default();
        let node = |file_type: FileType, entry: &Entry<'_, _>| {
            let number = |side: io::Result<Option<u32>>| side.ok().flatten().unwrap_or(0);
            let device = rustix::fs::makedev(
                number(entry.header().device_major()),
                number(entry.header().device_minor()),
            );
            mknodat(parent, name, file_type, Mode::from_raw_mode(0o600), device)
        };
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|error| failed(error.into()))?;
                let expected = entry.size();
                let copied = io::copy(entry, &mut File::from(fd)).map_err(classify_copy(path))?;
                if copied < expected && kind != EntryType::GNUSparse {
                    return Err(LayerError::Truncated);
                }
                self.size += copied;
            }
            EntryType::Directory => {
                mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(|error| failed(error.into()))?;
            }
            EntryType::Symlink => {
                let target = link_name(entry)?;
                symlinkat(&target, parent, name).map_err(|error| failed(error.into()))?;
                // As with Docker a link is as long as what it points to.
                self.size += target.as_os_str().len() as u64;
            }
            EntryType::Link => {
                let target = link_name(entry)?;
                let target = normalize(&target).map_err(|_| LayerError::Link(target.clone()))?;
                let Some(target_name) = target.file_name() else { return Err(LayerError::Link(target)) };
                let from = self
                    .open_directory(target.parent().unwrap_or(Path::new("")))
                    .map_err(|error| failed(error.into()))?;
                linkat(&from, target_name, parent, name, AtFlags::empty())
                    .map_err(|error| failed(error.into()))?;
            }
            EntryType::Fifo => node(FileType::Fifo, entry).map_err(|error| failed(error.into()))?,
            EntryType::Char => {
                node(FileType::CharacterDevice, entry).map_err(|error| failed(error.into()))?
            }
            EntryType::Block => node(FileType::BlockDevice, entry).map_err(|error| failed(error.into()))?,
            _ => return Err(LayerError::Path(path.to_owned())),
        }
        Ok(())
    }

    fn attributes(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        parent: &OwnedFd,
        path: &Path,
        kind: EntryType,
    ) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        let header = entry.header();
        // Empty fields are zero.
        let (uid, gid) = match self.unpacking {
            Unpacking::Copy { owner: Some((uid, gid)), .. } => (u64::from(uid), u64::from(gid)),
            _ => (header.uid().unwrap_or(0), header.gid().unwrap_or(0)),
        };
        let mode = header.mode().unwrap_or(0o755);
        let mtime = header.mtime().unwrap_or(0) as i64;
        let owner = (Uid::from_raw(uid as u32), Gid::from_raw(gid as u32));
        chownat(parent, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
        set_extended_attributes(entry, parent, name)?;
        if kind != EntryType::Symlink {
            // After the owner: chown clears the set-id bits.
            change_mode(parent, name, Mode::from_raw_mode(mode & 0o7777))?;
        }
        if kind == EntryType::Directory {
            self.directory_times.push((path.to_owned(), mtime));
        } else {
            utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn attributes_of_root(&self, entry: &Entry<'_, impl Read>) -> io::Result<()> {
        let header = entry.header();
        let (uid, gid) = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
        rustix::fs::fchown(self.root, Some(Uid::from_raw(uid as u32)), Some(Gid::from_raw(gid as u32)))?;
        Ok(rustix::fs::fchmod(self.root, Mode::from_raw_mode(header.mode().unwrap_or(0o755) & 0o7777))?)
    }

    fn set_directory_times(&self) {
        for (path, mtime) in self.directory_times.iter().rev() {
            // A later entry may have replaced the directory: its time is then its own.
            if let (Ok(parent), Some(name)) =
                (self.open_directory(path.parent().unwrap_or(Path::new(""))), path.file_name())
            {
                let _ = utimensat(&parent, name, &times(*mtime), AtFlags::SYMLINK_NOFOLLOW);
            }
        }
    }
}

fn classify_copy(path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    let path = path.to_owned();
    move |source| {
        if is_truncated(&source) { LayerError::Truncated } else { LayerError::Entry { path, source } }
    }
}

fn link_name(entry: &Entry<'_, impl Read>) -> Result<PathBuf, LayerError> {
    let target = entry.link_name().map_err(classify)?.map(|target| target.into_owned()).unwrap_or_default();
    if target.as_os_str().is_empty() || target.as_os_str().as_bytes().contains(&0) {
        return Err(LayerError::Link(target));
    }
    Ok(target)
}

/// chmod follows a link, and a container may have put one into the place meanwhile: so it is done to what is open.
fn change_mode(parent: &OwnedFd, name: &std::ffi::OsStr, mode: Mode) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    Ok(rustix::fs::chmod(fd_path(&place), mode)?)
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn whiteout(parent: &OwnedFd, hidden: &[u8]) -> io::Result<()> {
    use std::ffi::OsStr;
    if hidden == b".wh..opq" {
        return Ok(fsetxattr(parent, "trusted.overlay.opaque", b"y", XattrFlags::empty())?);
    }
    // Other names that begin so are bookkeeping of an older format.
    if hidden.starts_with(b".wh.") || hidden.is_empty() || hidden == b"." || hidden == b".." {
        return Ok(());
    }
    let name = OsStr::from_bytes(hidden);
    match mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::EXIST) => {
            remove_tree(parent, Path::new(name))?;
            Ok(mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?)
        }
        result => Ok(result?),
    }
}

/// Sets `SCHILY.xattr.*`; those that would change how overlayfs reads the layer are left out.
fn set_extended_attributes(
    entry: &mut Entry<'_, impl Read>,
    parent: &OwnedFd,
    name: &std::ffi::OsStr,
) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(key) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else {
            continue;
        };
        if !(key.starts_with("user.") || key == "security.capability") {
            continue;
        }
        let path = fd_path(parent).join(name);
        match lsetxattr(&path, key, extension.value_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes what `name` in `parent` is, without following links.
fn remove_tree(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            remove_tree(&directory, Path::new(std::ffi::OsStr::from_bytes(child)))?;
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
