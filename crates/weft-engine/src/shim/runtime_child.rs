//! A running runtime child: the short-lived process in which libcontainer creates the container or an exec.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::fcntl_setfl;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::bundle::{Bundle, ShimConfig};
use super::connection::ProcessKey;

/// What the shim tells a child that creates a container: the first time to go about it, the second to let it run.
pub(crate) const ORDER: &[u8; 2] = b"go";

/// What the runtime child tells the shim, one line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Report {
    /// The process exists; a container waits for its start.
    Ready {
        /// Process id on the host.
        pid: i32,
    },
    /// The container's process runs.
    Running,
    /// It could not be done.
    Failed {
        /// For the user.
        reason: String,
        /// 126, 127 or 128.
        exit_code: i64,
    },
}

/// The child as its shim sees it.
pub(crate) struct RuntimeChild {
    /// Its process id.
    pub(crate) pid: i32,
    /// The process it creates.
    pub(crate) process: ProcessKey,
    /// Where its reports come from; `None` after their end.
    pub(crate) reports: Option<File>,
    received: Vec<u8>,
    /// Where its orders go.
    orders: File,
    /// Where the terminal will come from.
    pub(crate) console: Option<UnixListener>,
    /// The runtime, connected to hand over the terminal.
    pub(crate) console_peer: Option<UnixStream>,
    cleanup: Vec<PathBuf>,
}

/// Standard streams for the process that a runtime child creates.
pub(crate) struct ChildStreams {
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
}

impl RuntimeChild {
    /// Starts a child: for an exec where there is a `process_file`, its OCI process; else one that creates.
    pub(crate) fn spawn(
        config: &ShimConfig,
        bundle: &Bundle,
        process: ProcessKey,
        process_file: Option<&Path>,
        tty: bool,
        streams: ChildStreams,
    ) -> io::Result<Self> {
        let (reports, report_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (go_end, orders) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&reports, rustix::fs::OFlags::NONBLOCK)?;
        let mut cleanup: Vec<PathBuf> = process_file.iter().map(|path| path.to_path_buf()).collect();
        let mut command = config.reexec().command("runtime");
        command.arg(if process_file.is_some() { "exec" } else { "create" });
        command.arg("--bundle").arg(bundle.path()).arg("--id").arg(&config.id);
        command.arg("--cgroup").arg(&config.cgroup);
        command.arg("--report").arg(report_end.as_raw_fd().to_string());
        command.arg("--go").arg(go_end.as_raw_fd().to_string());
        if let Some(path) = process_file {
            command.arg("--process").arg(path);
        }
        let console = if tty {
            let name = format!("console-{process}.sock");
            let (_dir, short) = bundle.short_path(&name)?;
            let _ = std::fs::remove_file(bundle.path().join(&name));
            let listener = UnixListener::bind(short)?;
            listener.set_nonblocking(true)?;
            command.arg("--console").arg(bundle.path().join(&name));
            cleanup.push(bundle.path().join(&name));
            Some(listener)
        } else {
            None
        };
        command.env_clear().current_dir("/");
        command.stdin(streams.stdin).stdout(streams.stdout).stderr(streams.stderr);
        // This process has one thread: nothing else is started between here and the drop of these ends.
        fcntl_setfd(&report_end, FdFlags::empty())?;
        fcntl_setfd(&go_end, FdFlags::empty())?;
        let child = command.spawn()?;
        Ok(Self {
            pid: child.id() as i32,
            process,
            reports: Some(File::from(reports)),
            received: Vec::new(),
            orders: File::from(orders),
            console,
            console_peer: None,
            cleanup,
        })
    }

    /// Lets a child that creates go on: the first time to the container, the second lets that run.
    pub(crate) fn go_on(&mut self) -> io::Result<()> {
        self.orders.write_all(ORDER)
    }

    /// Reports that have arrived.
    pub(crate) fn read_reports(&mut self) -> Vec<Report> {
        let mut buffer = [0u8; 4096];
        while let Some(pipe) = &mut self.reports {
            match pipe.read(&mut buffer) {
                Ok(0) => self.reports = None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.reports = None,
            }
        }
        let mut reports = Vec::new();
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            if let Ok(report) = serde_json::from_slice(&self.received[..end]) {
                reports.push(report);
            }
            self.received.drain(..=end);
        }
        reports
    }

    /// The terminal, once the runtime has handed it over.
    pub(crate) fn receive_terminal(&mut self) -> Option<OwnedFd> {
        if let (Some(listener), None) = (&self.console, &self.console_peer)
            && let Ok((peer, _)) = listener.accept()
        {
            let _ = peer.set_nonblocking(true);
            self.console_peer = Some(peer);
            self.console = None;
        }
        let peer = self.console_peer.as_ref()?;
        let terminal = receive_fd(peer)?;
        self.console_peer = None;
        Some(terminal)
    }
}

impl Drop for RuntimeChild {
    fn drop(&mut self) {
        for path in &self.cleanup {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A descriptor sent over a unix socket.
fn receive_fd(socket: &UnixStream) -> Option<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut data = [0u8; 256];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [io::IoSliceMut::new(&mut data)];
    recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}
