//! Writing an archive of files that somebody else may change meanwhile.
//!
//! Directories are held open while they are read and nothing below them is opened by a path of more than one name, so
//! an archive has what lies in the directory that was asked for, wherever names lead by now. Only what is a regular
//! file is opened: opening a pipe would wait, and opening a device may do something.
//!
//! Headers are those of POSIX (pax Interchange Format, IEEE Std 1003.1): names that do not fit, and file capabilities,
//! come in an extended header.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use super::changes::is_runtimes_own;
use crate::below::fd_path;
use crate::byte_pipe::BodyWriter;
use crate::image::MAX_DEPTH;

/// The extended attribute that programs lose their rights without; Docker keeps no other.
const CAPABILITY: &str = "security.capability";
/// More than any version of it needs.
const CAPABILITY_MAX: usize = 256;
/// Bytes of a name that the plain header holds.
const NAME_MAX: usize = 100;

/// Which files an archive is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tree as a container sees it.
    Tree,
    /// An overlay's upper directory: what it hides becomes whiteouts (OCI image-spec `layer.md`).
    Layer,
}

/// Writes an archive to whoever reads it.
pub(crate) fn write(
    writer: BodyWriter,
    kind: Kind,
    pack: impl FnOnce(&mut Packer<BodyWriter>) -> io::Result<()>,
) {
    let failing = writer.clone();
    let mut packer = Packer::new(writer, kind);
    if let Err(error) = pack(&mut packer).and_then(|()| packer.finish().map(drop)) {
        // Who reads it may go away at any time.
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::warn!(%error, "archive not written to its end");
        }
        failing.fail(error);
    }
}

/// Writes one archive.
pub(crate) struct Packer<W: Write> {
    tar: Builder<W>,
    kind: Kind,
    /// First names of files that have several.
    names: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(output: W, kind: Kind) -> Self {
        Self { tar: Builder::new(output), kind, names: HashMap::new() }
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(self) -> io::Result<W> {
        let mut output = self.tar.into_inner()?;
        output.flush()?;
        Ok(output)
    }

    /// Packs `name` of a directory, a directory with all that is in it. It is called `shown` in the archive. What has
    /// gone meanwhile is left out.
    pub(crate) fn entry(&mut self, parent: &OwnedFd, name: &OsStr, shown: &[u8]) -> io::Result<()> {
        self.entry_at(parent, name, shown, 0)
    }

    fn entry_at(&mut self, parent: &OwnedFd, name: &OsStr, shown: &[u8], depth: usize) -> io::Result<()> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(parent, name, flags, Mode::empty()) {
                    Ok(directory) => self.directory_at(&directory, shown, depth),
                    Err(error) => replaced(error),
                }
            }
            // Made for a mount, not by the container.
            FileType::RegularFile
                if self.kind == Kind::Layer && stat.st_size == 0 && is_runtimes_own(shown) =>
            {
                Ok(())
            }
            FileType::RegularFile => match open_regular(parent, name) {
                Ok(Some((file, stat))) => self.file(&file, &stat, shown),
                Ok(None) => Ok(()),
                Err(error) => replaced(error),
            },
            FileType::Symlink => match readlinkat(parent, name, Vec::new()) {
                Ok(target) => self.header(&stat, EntryType::Symlink, shown, target.as_bytes(), &[]),
                Err(error) => replaced(error),
            },
            FileType::CharacterDevice if self.kind == Kind::Layer && stat.st_rdev == 0 => {
                self.whiteout(&stat, shown)
            }
            FileType::CharacterDevice => self.header(&stat, EntryType::Char, shown, &[], &[]),
            FileType::BlockDevice => self.header(&stat, EntryType::Block, shown, &[], &[]),
            FileType::Fifo => self.header(&stat, EntryType::Fifo, shown, &[], &[]),
            // A socket is of no use to another process; archives have no kind for it.
            _ => Ok(()),
        }
    }

    /// Packs an open directory and all that is in it under the name `shown`.
    pub(crate) fn directory(&mut self, directory: &OwnedFd, shown: &[u8]) -> io::Result<()> {
        self.directory_at(directory, shown, 0)
    }

    fn directory_at(&mut self, directory: &OwnedFd, shown: &[u8], depth: usize) -> io::Result<()> {
        let mut name = shown.to_vec();
        if !name.ends_with(b"/") {
            name.push(b'/');
        }
        self.header(&fstat(directory)?, EntryType::Directory, &name, &[], &[])?;
        if self.kind == Kind::Layer && is_opaque(directory) {
            // Together with what `whiteout` puts before it: `.wh..wh..opq`.
            self.whiteout(&fstat(directory)?, &[name.as_slice(), b".wh..opq"].concat())?;
        }
        self.content_at(directory, &name, depth)
    }

    /// Packs an open directory as the root of a tree, with the attributes of the directory itself.
    pub(crate) fn root(&mut self, directory: &OwnedFd) -> io::Result<()> {
        self.header(&fstat(directory)?, EntryType::Directory, b"./", &[], &[])?;
        self.content_at(directory, b"", 0)
    }

    /// Packs what is in an open directory; `prefix` is empty or ends in `/`.
    pub(crate) fn content(&mut self, directory: &OwnedFd, prefix: &[u8]) -> io::Result<()> {
        self.content_at(directory, prefix, 0)
    }

    fn content_at(&mut self, directory: &OwnedFd, prefix: &[u8], depth: usize) -> io::Result<()> {
        if depth >= MAX_DEPTH {
            let text = format!("directories too deep: {}", String::from_utf8_lossy(prefix));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        for name in names(directory)? {
            self.entry_at(directory, &name, &[prefix, name.as_bytes()].concat(), depth + 1)?;
        }
        Ok(())
    }

    fn file(&mut self, file: &File, stat: &Stat, shown: &[u8]) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let first = self.names.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| shown.to_vec());
            if first != shown {
                let first = first.clone();
                return self.header(stat, EntryType::Link, shown, &first, &[]);
            }
        }
        let mut capability = vec![0; CAPABILITY_MAX];
        let length = fgetxattr(file, CAPABILITY, capability.as_mut_slice()).unwrap_or(0);
        capability.truncate(length);
        self.header(stat, EntryType::Regular, shown, &[], &capability)?;
        // Exactly as many bytes as the header says: what has grown is cut, what has shrunk ends in zeros.
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let padding = size.next_multiple_of(512);
        io::copy(&mut file.take(size).chain(io::repeat(0)).take(padding), self.tar.get_mut())?;
        Ok(())
    }

    /// `.wh.NAME` for a name that is hidden.
    fn whiteout(&mut self, stat: &Stat, shown: &[u8]) -> io::Result<()> {
        let at = shown.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = [&shown[..at], b".wh.".as_slice(), &shown[at..]].concat();
        let mut stat = *stat;
        stat.st_size = 0;
        stat.st_mode = 0;
        self.header(&stat, EntryType::Regular, &name, &[], &[])
    }

    fn header(
        &mut self,
        stat: &Stat,
        kind: EntryType,
        name: &[u8],
        link: &[u8],
        capability: &[u8],
    ) -> io::Result<()> {
        let xattr = format!("SCHILY.xattr.{CAPABILITY}");
        let all = [("path", name, NAME_MAX), ("linkpath", link, NAME_MAX), (xattr.as_str(), capability, 0)];
        let long = all.into_iter().filter(|(_, value, plain)| value.len() > *plain);
        self.tar.append_pax_extensions(long.map(|(key, value, _)| (key, value)))?;
        let header = main_header(stat, kind, name, link)?;
        self.tar.get_mut().write_all(header.as_bytes())
    }
}

/// Something else has taken its place since it was looked at.
fn replaced(error: Errno) -> io::Result<()> {
    match error {
        Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::INVAL => Ok(()),
        error => Err(error.into()),
    }
}

/// What it is and what is in it, of one and the same file.
fn open_regular(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<Option<(File, Stat)>> {
    let place = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(fd_path(&place), flags, Mode::empty())?;
    let stat = fstat(&file)?;
    Ok(Some((file.into(), stat)))
}

/// Names in a directory, in order.
pub(crate) fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether an upper directory hides all of what lies below it.
pub(crate) fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 4];
    let length = fgetxattr(directory, "trusted.overlay.opaque", value.as_mut_slice());
    length.is_ok_and(|length| value[..length] == *b"y")
}

fn main_header(stat: &Stat, kind: EntryType, name: &[u8], link: &[u8]) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(u64::from(stat.st_uid));
    header.set_gid(u64::from(stat.st_gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(if kind == EntryType::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 });
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(rustix::fs::major(stat.st_rdev))?;
        header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
    }
    set_name(&mut header, name, link);
    header.set_cksum();
    Ok(header)
}

/// What does not fit is cut: the whole of it stands in the extended header.
fn set_name(header: &mut Header, name: &[u8], link: &[u8]) {
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, name), (&mut old.linkname, link)] {
        let text = &text[..text.len().min(NAME_MAX)];
        field[..text.len()].copy_from_slice(text);
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
