//! A process that the shim looks after: the container's first one or an exec. Its streams and what is known of its
//! end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::protocol::ExitStatus;

/// How much of a client's input may wait for the process to read it.
pub(crate) const STDIN_BACKLOG: usize = 64 * 1024;

/// One process and its streams.
#[derive(Default)]
pub(crate) struct Process {
    /// Id of the exec; empty for the container itself.
    pub(crate) exec_id: String,
    /// Process id on the host, once started.
    pub(crate) pid: Option<i32>,
    /// Where its input goes; the terminal is both input and output.
    pub(crate) stdin: Option<File>,
    /// Input the process has not read yet.
    pub(crate) pending: Vec<u8>,
    /// Close the input once nothing is pending.
    pub(crate) close_stdin: bool,
    /// Standard output (or the terminal) and standard error.
    pub(crate) outputs: [Option<File>; 2],
    /// The terminal, for its size.
    pub(crate) terminal: Option<OwnedFd>,
    /// Size to set once the terminal exists.
    pub(crate) wanted_size: Option<(u16, u16)>,
    /// How it ended.
    pub(crate) exit: Option<ExitStatus>,
    /// When its outputs are given up after its end.
    pub(crate) drain_deadline: Option<std::time::Instant>,
}

/// What reading an output gave.
pub(crate) enum Chunk {
    /// So many bytes.
    Data(usize),
    /// Nothing now.
    Later,
    /// Nothing ever again.
    End,
}

impl Process {
    /// Takes over the terminal that the runtime has made.
    pub(crate) fn set_terminal(&mut self, terminal: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&terminal, true)?;
        self.stdin = Some(File::from(terminal.try_clone()?));
        self.outputs[0] = Some(File::from(terminal.try_clone()?));
        self.terminal = Some(terminal);
        if let Some((height, width)) = self.wanted_size {
            self.resize(height, width)?;
        }
        Ok(())
    }

    /// Sets the terminal's size, now or as soon as there is one.
    pub(crate) fn resize(&mut self, height: u16, width: u16) -> io::Result<()> {
        self.wanted_size = Some((height, width));
        if let Some(terminal) = &self.terminal {
            let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(terminal.as_fd(), size)?;
        }
        Ok(())
    }

    /// Takes input; what the process does not read at once stays pending.
    pub(crate) fn feed(&mut self, data: &[u8]) {
        if self.stdin.is_some() && !self.close_stdin {
            self.pending.extend_from_slice(data);
            self.pump_stdin();
        }
    }

    /// No more input comes. A terminal has no end of input: the client's program sends control-D.
    pub(crate) fn end_stdin(&mut self) {
        if self.terminal.is_none() {
            self.close_stdin = true;
            self.pump_stdin();
        }
    }

    /// Writes pending input as far as it goes.
    pub(crate) fn pump_stdin(&mut self) {
        while let (Some(stdin), false) = (&mut self.stdin, self.pending.is_empty()) {
            match stdin.write(&self.pending) {
                Ok(written) => {
                    self.pending.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.stdin = None;
                    self.pending = Vec::new();
                }
            }
        }
        if self.pending.is_empty() {
            self.pending.shrink_to(STDIN_BACKLOG);
            if self.close_stdin {
                self.stdin = None;
            }
        }
    }

    /// Reads from output `index`; closes it at its end.
    pub(crate) fn read_output(&mut self, index: usize, buffer: &mut [u8]) -> Chunk {
        let Some(file) = &mut self.outputs[index] else { return Chunk::End };
        match file.read(buffer) {
            Ok(0) => {}
            Ok(count) => return Chunk::Data(count),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Chunk::Later;
            }
            // EIO is how a terminal says that the last process has closed it.
            Err(error) => {
                if error.raw_os_error() != Some(Errno::IO.raw_os_error()) {
                    eprint_line(&format!("read output {index}: {error}"));
                }
            }
        }
        self.outputs[index] = None;
        Chunk::End
    }

    /// Whether all its output has been read.
    pub(crate) fn is_drained(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }
}

/// The shim's standard error is its log file in the bundle.
pub(crate) fn eprint_line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
