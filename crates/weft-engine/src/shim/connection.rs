//! One connection of the daemon to the shim.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use super::protocol::{Reply, put_frame, put_reply};

/// A process is not read while a client of it has more than this waiting: the container waits for a slow client, as
/// with Docker, instead of the shim growing.
pub(crate) const OUTPUT_BACKLOG: usize = 64 * 1024;

/// Index of a process in the shim; 0 is the container itself.
pub(crate) type ProcessKey = u32;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The request has not arrived yet.
    New,
    /// It created the container or watches it: gets its exit.
    Watcher {
        /// The connection whose end undoes a creation that was not followed by a start.
        creator: bool,
    },
    /// It carries streams of a process.
    Stream {
        /// Which process.
        process: ProcessKey,
        /// Bytes received are its input.
        stdin: bool,
        /// Send its output.
        stdout: bool,
        /// Send its errors.
        stderr: bool,
    },
    /// Answered; closed once everything is sent.
    Finishing,
}

/// A connection with its buffers.
pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    pub(crate) role: Role,
    /// Bytes of an incomplete request.
    pub(crate) input: Vec<u8>,
    /// Bytes to send.
    output: Vec<u8>,
    sent: usize,
    /// The daemon has half-closed.
    pub(crate) read_closed: bool,
    /// Broken or done.
    pub(crate) dead: bool,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            role: Role::New,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            read_closed: false,
            dead: false,
        })
    }

    /// Bytes not sent yet.
    pub(crate) fn backlog(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Queues a frame and sends what goes at once.
    pub(crate) fn send_frame(&mut self, kind: u8, payload: &[u8]) {
        put_frame(&mut self.output, kind, payload);
        self.flush();
    }

    /// Queues a reply and sends what goes at once.
    pub(crate) fn reply(&mut self, reply: &Reply) {
        put_reply(&mut self.output, reply);
        self.flush();
    }

    /// Sends the last reply; the connection closes after it.
    pub(crate) fn finish(&mut self, reply: &Reply) {
        put_reply(&mut self.output, reply);
        self.role = Role::Finishing;
        self.flush();
    }

    /// Sends what goes.
    pub(crate) fn flush(&mut self) {
        while self.backlog() > 0 {
            match (&self.stream).write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.dead = true;
                    self.sent = self.output.len();
                }
            }
        }
        self.output.clear();
        self.output.shrink_to(OUTPUT_BACKLOG);
        self.sent = 0;
        if self.role == Role::Finishing {
            self.dead = true;
        }
    }

    /// Receives up to `buffer.len()` bytes; `None` when there is nothing now. Zero bytes mean a half-close.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match (&self.stream).read(buffer) {
            Ok(0) => {
                self.read_closed = true;
                Some(0)
            }
            Ok(count) => Some(count),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                None
            }
            Err(_) => {
                self.dead = true;
                self.read_closed = true;
                Some(0)
            }
        }
    }
}
