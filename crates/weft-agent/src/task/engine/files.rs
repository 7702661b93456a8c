//! Files of secrets and configs for containers: in memory only, one folder per task, gone with it.
//!
//! The folder is below the daemon's run directory. Where that is no file system in memory, one is mounted there: what
//! is secret must not reach a disk.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of statfs(2).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A file to be shown to a container.
pub(super) struct TaskFile {
    pub(super) data: Vec<u8>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

/// The folder of all tasks' files.
#[derive(Debug)]
pub(super) struct TaskFiles {
    root: PathBuf,
}

impl TaskFiles {
    /// Nothing is made before the first file.
    pub(super) fn below(run_dir: &Path) -> Self {
        Self { root: run_dir.join("task-files") }
    }

    fn dir(&self, task: &str) -> PathBuf {
        self.root.join(task)
    }

    /// Where file number `index` of a task lies.
    pub(super) fn path(&self, task: &str, index: usize) -> PathBuf {
        self.dir(task).join(index.to_string())
    }

    /// Writes all files of a task anew.
    pub(super) fn write(&self, task: &str, files: &[TaskFile]) -> std::io::Result<()> {
        self.open()?;
        self.remove(task)?;
        DirBuilder::new().mode(0o700).create(self.dir(task))?;
        for (index, file) in files.iter().enumerate() {
            let path = self.path(task, index);
            let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            made.write_all(&file.data)?;
            std::os::unix::fs::fchown(&made, Some(file.uid), Some(file.gid))?;
            // After the owner: a change of owner takes some bits away. The mode of the request alone counts, no umask.
            made.set_permissions(std::fs::Permissions::from_mode(file.mode & 0o7777))?;
        }
        Ok(())
    }

    /// Whether the files of a task are there.
    pub(super) fn has(&self, task: &str) -> bool {
        self.dir(task).exists()
    }

    /// Removes the files of a task. What is gone is no error.
    pub(super) fn remove(&self, task: &str) -> std::io::Result<()> {
        match std::fs::remove_dir_all(self.dir(task)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes everything: this node leaves the swarm.
    pub(super) fn close(&self) {
        if !self.root.exists() {
            return;
        }
        let emptied = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .try_for_each(|entry| std::fs::remove_dir_all(entry.path()));
        // Fails where nothing is mounted, which is as good.
        let _ = rustix::mount::unmount(&self.root, UnmountFlags::DETACH);
        if let Err(error) = emptied.and_then(|()| std::fs::remove_dir(&self.root)) {
            tracing::warn!(path = %self.root.display(), %error, "files of tasks left behind");
        }
    }

    fn open(&self) -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        if in_memory(&self.root)? {
            return Ok(());
        }
        let flags = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
        rustix::mount::mount("tmpfs", &self.root, "tmpfs", flags, Some(c"mode=0700"))?;
        Ok(())
    }
}

fn in_memory(path: &Path) -> std::io::Result<bool> {
    let found = rustix::fs::fstatfs(File::open(path)?)?;
    Ok(IN_MEMORY.contains(&(found.f_type as u64)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_have_owner_and_mode_are_in_memory_and_go_with_their_task() {
        let dir = tempfile::tempdir().unwrap();
        let files = TaskFiles::below(dir.path());
        let file = |data: &[u8], mode| TaskFile { data: data.to_vec(), uid: 7, gid: 8, mode };
        files.write("t1", &[file(b"hush", 0o440), file(b"", 0o4555)]).unwrap();
        files.write("t2", &[file(b"other", 0o444)]).unwrap();
        let path = files.path("t1", 0);
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (7, 8, 0o440));
        assert_eq!(std::fs::read(&path).unwrap(), b"hush");
        assert!(in_memory(path.parent().unwrap()).unwrap());
        files.remove("t1").unwrap();
        files.remove("t1").unwrap();
        assert!(!files.has("t1") && files.has("t2"));
        files.close();
        assert!(!dir.path().join("task-files").exists());
    }
}
