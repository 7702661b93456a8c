//! Files that are replaced whole: after a crash at any instant a reader finds the old content or the new one.
//!
//! The new content goes into a temporary file in the same folder, which then takes the name by a rename. A file has
//! one writer at a time: two at once would share the temporary file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces the file and returns when that survives a crash of the machine: file and folder are synced.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (temporary, file) = write_beside(path, bytes, mode)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)?;
    sync_dir(folder_of(path))
}

/// Replaces the file without waiting for the disk: whole after a crash of the process, but a crash of the machine
/// may bring the old content back.
pub fn replace_unsynced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (temporary, _) = write_beside(path, bytes, mode)?;
    std::fs::rename(temporary, path)
}

/// Removes what a crash left of a replacement of the file. For its one writer, before it writes.
pub fn forget_unfinished(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(temporary_of(path)?) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes durable what was added to or removed from a folder.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<(PathBuf, File)> {
    let temporary = temporary_of(path)?;
    // One that a crash left may have any mode and owner: made anew, it has ours.
    forget_unfinished(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    Ok((temporary, file))
}

/// `.name.tmp` beside `name`.
fn temporary_of(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::IsADirectory)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    Ok(path.with_file_name(temporary))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        replace(&path, b"one", 0o600).unwrap();
        replace_unsynced(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_is_not_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let stale = dir.path().join(".key.tmp");
        std::fs::write(&stale, b"half").unwrap();
        std::fs::set_permissions(&stale, std::fs::Permissions::from_mode(0o666)).unwrap();
        replace(&path, b"whole", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_a_crash_left_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        replace(&path, b"whole", 0o600).unwrap();
        std::fs::write(dir.path().join(".key.tmp"), b"half").unwrap();
        forget_unfinished(&path).unwrap();
        forget_unfinished(&path).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn without_a_file_name_or_folder_it_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(replace(Path::new("/"), b"", 0o600).is_err());
        assert!(replace(&dir.path().join("missing/file"), b"", 0o600).is_err());
    }
}
