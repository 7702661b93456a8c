//! The directory of a running container: what the daemon leaves for the shim and the shim for the daemon.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::protocol::ExitStatus;
use crate::below::fd_path;
use crate::config::Reexec;

/// What a shim needs to know beside the OCI specification.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShimConfig {
    /// Id of the container.
    pub(crate) id: String,
    /// Whether it has a terminal.
    pub(crate) tty: bool,
    /// Whether its input is kept open.
    pub(crate) open_stdin: bool,
    /// Whether its input closes with the first attached client's.
    pub(crate) stdin_once: bool,
    /// Owner of the stream pipes: the process's user.
    pub(crate) uid: u32,
    /// Group of the stream pipes.
    pub(crate) gid: u32,
    /// Where the log goes; `None` keeps none.
    pub(crate) log: Option<LogConfig>,
    /// The container's directory below each cgroup hierarchy, `/weft/<id>`.
    pub(crate) cgroup: PathBuf,
    /// Program to start as runtime child.
    pub(crate) exe: PathBuf,
    /// Its arguments before `runtime`.
    pub(crate) args: Vec<String>,
}

impl ShimConfig {
    /// How to start runtime children.
    pub(crate) fn reexec(&self) -> Reexec {
        Reexec { exe: self.exe.clone(), args: self.args.iter().map(Into::into).collect() }
    }
}

/// A json-file log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LogConfig {
    /// The file.
    pub(crate) path: PathBuf,
    /// Bytes after which it is rotated; `None` never.
    pub(crate) max_size: Option<u64>,
    /// How many files are kept, at least 1.
    pub(crate) max_files: u32,
}

/// Paths inside a bundle.
#[derive(Debug, Clone)]
pub(crate) struct Bundle(PathBuf);

impl Bundle {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The OCI specification; the runtime library insists on the name.
    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// The compiled filter of system calls, where there is one; `config.json` has none then.
    pub(crate) fn filter(&self) -> PathBuf {
        self.0.join("filter.bpf")
    }

    pub(crate) fn shim_config(&self) -> PathBuf {
        self.0.join("shim.json")
    }

    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// Where the runtime library keeps its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn exit_file(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// An open handle and a short path of the file `name` through it: socket addresses hold 107 bytes only.
    pub(crate) fn short_path(&self, name: &str) -> io::Result<(File, PathBuf)> {
        let dir =
            rustix::fs::open(&self.0, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let dir = File::from(dir);
        let path = fd_path(&dir).join(name);
        Ok((dir, path))
    }

    pub(crate) fn write_exit(&self, status: &ExitStatus) -> io::Result<()> {
        let bytes = serde_json::to_vec(status)?;
        weft_durable::replace_unsynced(&self.exit_file(), &bytes, 0o600)
    }

    /// How the container ended, if it did.
    pub(crate) fn read_exit(&self) -> Option<ExitStatus> {
        serde_json::from_slice(&fs::read(self.exit_file()).ok()?).ok()
    }
}
