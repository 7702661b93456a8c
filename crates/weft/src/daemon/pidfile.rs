//! The PID file: one daemon per file, and a stale one is no obstacle.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Holds the file while the daemon runs and removes it at the end.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

/// Why the file cannot be ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum PidFileError {
    #[error(
        "failed to start daemon, ensure weftd is not running or delete {path}: process with PID {pid} is still running"
    )]
    Running { path: PathBuf, pid: i32 },
    #[error("write the PID file {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
}

impl PidFile {
    /// Writes this process's id, unless the process named in the file is another daemon that still runs.
    pub(super) fn create(path: &Path) -> Result<Self, PidFileError> {
        if let Some(pid) = running_daemon(path) {
            return Err(PidFileError::Running { path: path.to_owned(), pid });
        }
        write(path).map_err(|source| PidFileError::Write { path: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "PID file not removed");
        }
    }
}

fn write(path: &Path) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let partial = path.with_extension("tmp");
    let mut file = std::fs::File::create(&partial)?;
    write!(file, "{}", std::process::id())?;
    std::fs::rename(&partial, path)
}

/// The process that the file names, if it lives, is not us, and runs the same program: pids are reused.
fn running_daemon(path: &Path) -> Option<i32> {
    let pid: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    if pid == std::process::id() as i32 {
        return None;
    }
    let theirs = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let ours = std::env::current_exe().ok()?;
    (theirs.file_name() == ours.file_name()).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_replaced_and_removed_at_the_end() {
        let dir = std::env::temp_dir().join(format!("weft-pid-{}", std::process::id()));
        let path = dir.join("pid");
        std::fs::create_dir_all(&dir).unwrap();
        // The largest pid Linux gives is 2^22: nobody has this one.
        std::fs::write(&path, "999999999").unwrap();
        let file = PidFile::create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(file);
        assert!(!path.exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
