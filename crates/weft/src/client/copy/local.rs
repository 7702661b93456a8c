//! Archives of files of this machine, written and unpacked by threads that may wait.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};

use bytes::{Buf as _, Bytes};
use tar::{Archive, Builder, EntryType};
use tokio::sync::mpsc::{Receiver, Sender};

type Piece = io::Result<Bytes>;

/// A reader of the pieces that somebody else sends.
pub(super) fn channel(pieces: usize) -> (Sender<Piece>, impl Read + Send + 'static) {
    let (sender, receiver) = tokio::sync::mpsc::channel(pieces);
    (sender, Pieces { receiver, rest: Bytes::new() })
}

struct Pieces {
    receiver: Receiver<Piece>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Sends what is written in pieces.
struct Outlet(Sender<Piece>);

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a file or folder as an archive whose entries begin with `entry`; how many bytes of files.
pub(super) fn pack(path: &Path, entry: &Path, to: Sender<Piece>) -> io::Result<u64> {
    let failure = to.clone();
    let mut builder = Builder::new(io::BufWriter::with_capacity(64 << 10, Outlet(to)));
    builder.follow_symlinks(false);
    let outcome = add(&mut builder, path, entry).and_then(|bytes| {
        builder.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(bytes)
    });
    if let Err(error) = &outcome {
        // Half an archive must not look like a whole one.
        let _ = failure.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
    }
    outcome
}

fn add(builder: &mut Builder<impl Write>, path: &Path, entry: &Path) -> io::Result<u64> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let metadata = fs::symlink_metadata(path).map_err(named)?;
    if metadata.file_type().is_socket() {
        return Ok(0);
    }
    if !metadata.is_dir() {
        builder.append_path_with_name(path, entry).map_err(named)?;
        return Ok(if metadata.is_file() { metadata.len() } else { 0 });
    }
    builder.append_dir(entry, path).map_err(named)?;
    let mut names: Vec<_> =
        fs::read_dir(path).map_err(named)?.collect::<io::Result<Vec<_>>>().map_err(named)?;
    names.sort_by_key(fs::DirEntry::file_name);
    names
        .iter()
        .try_fold(0, |bytes, name| Ok(bytes + add(builder, &name.path(), &entry.join(name.file_name()))?))
}

/// Unpacks an archive whose entries begin with `entry` so that they begin with `root`; how many bytes of files.
///
/// What a container holds is not trusted: nothing is written outside of `root`'s folder, whatever links the archive makes.
pub(super) fn unpack(
    from: impl Read + Send + 'static,
    entry: &str,
    root: &Path,
    keep_owners: bool,
) -> io::Result<u64> {
    let (folder, name) = match (root.parent(), root.file_name()) {
        (Some(folder), Some(name)) => (folder.to_owned(), PathBuf::from(name)),
        // A root without a name is a folder whose content is meant.
        _ => (root.to_owned(), PathBuf::from(".")),
    };
    let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
    // The library looks after links while it unpacks, by the names that an archive has: so it gets one with the new names.
    let (reader, writer) = io::pipe()?;
    let entry = entry.to_owned();
    let renaming = std::thread::spawn(move || rename(from, &entry, &name, writer));
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(keep_owners);
    archive.set_unpack_xattrs(false);
    let outcome = archive.unpack(&folder);
    drop(archive);
    let renamed = renaming.join().map_err(|_| io::Error::other("the thread that reads the archive ended"))?;
    match (outcome, renamed) {
        (Ok(()), renamed) => renamed,
        // Why the one end broke is known at the other.
        (Err(_), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        (Err(error), _) => Err(error),
    }
}

fn rename(from: impl Read, entry: &str, name: &Path, to: impl Write) -> io::Result<u64> {
    let (mut archive, mut builder, mut bytes) = (Archive::new(from), Builder::new(to), 0);
    for item in archive.entries()? {
        let mut item = item?;
        let path = renamed(&item.path()?, entry, name);
        let mut header = item.header().clone();
        match header.entry_type() {
            EntryType::Link => {
                let target = item.link_name()?.unwrap_or_default();
                builder.append_link(&mut header, path, renamed(&target, entry, name))?;
            }
            EntryType::Symlink => {
                let target = item.link_name()?.unwrap_or_default().into_owned();
                builder.append_link(&mut header, path, target)?;
            }
            EntryType::Directory => builder.append_data(&mut header, path, io::empty())?,
            kind if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(item.size());
                bytes += item.size();
                builder.append_data(&mut header, path, &mut item)?;
            }
            _ => eprintln!("{}: neither file, folder nor link: left out", path.display()),
        }
    }
    builder.finish()?;
    // What follows the end's mark is still to be taken off the connection.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(bytes)
}

/// A path of the archive with another first name.
fn renamed(path: &Path, entry: &str, name: &Path) -> PathBuf {
    let parts: PathBuf = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .collect();
    let rest = if matches!(entry, "" | ".") { &parts } else { parts.strip_prefix(entry).unwrap_or(&parts) };
    if rest.as_os_str().is_empty() { name.to_owned() } else { name.join(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out when a folder is packed and unpacked again.
    fn through(from: &Path, entry: &str, root: &Path) -> u64 {
        let (sender, reader) = channel(1000);
        let packed = pack(from, Path::new(entry), sender).unwrap();
        assert_eq!(unpack(reader, entry, root, false).unwrap(), packed);
        packed
    }

    #[test]
    fn folders_come_back_under_another_name() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::write(from.join("deep/file"), "content").unwrap();
        std::os::unix::fs::symlink("deep/file", from.join("link")).unwrap();
        assert_eq!(through(&from, "from", &place.path().join("to")), 7);
        assert_eq!(fs::read_to_string(place.path().join("to/link")).unwrap(), "content");
        // Only the content, into a folder that is there.
        fs::create_dir(place.path().join("here")).unwrap();
        through(&from, ".", &place.path().join("here"));
        assert_eq!(fs::read_to_string(place.path().join("here/deep/file")).unwrap(), "content");
        through(&from.join("deep/file"), "file", &place.path().join("renamed"));
        assert_eq!(fs::read_to_string(place.path().join("renamed")).unwrap(), "content");
    }

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            let bytes = if *kind == EntryType::Regular { content.as_bytes() } else { b"" };
            header.set_size(bytes.len() as u64);
            match kind {
                EntryType::Symlink | EntryType::Link => {
                    builder.append_link(&mut header, path, content).unwrap()
                }
                _ => builder.append_data(&mut header, path, bytes).unwrap(),
            }
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_containers_links_lead_nothing_out() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        let inside = place.path().join("inside");
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&inside).unwrap();
        let lead_out = outside.display().to_string();
        for entries in [
            [
                ("a", EntryType::Directory, ""),
                ("a/way", EntryType::Symlink, lead_out.as_str()),
                ("a/way/file", EntryType::Regular, "x"),
            ],
            [
                ("a", EntryType::Directory, ""),
                ("a/way", EntryType::Symlink, "../../outside"),
                ("a/way/file", EntryType::Regular, "x"),
            ],
        ] {
            let bytes = archive(&entries);
            let _ = unpack(io::Cursor::new(bytes), "a", &inside.join("copy"), false);
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{entries:?}");
            let _ = fs::remove_dir_all(inside.join("copy"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
            let place = tempfile::tempdir().unwrap();
            let _ = unpack(io::Cursor::new(bytes), "a", &place.path().join("b"), false);
        }
    }
}
