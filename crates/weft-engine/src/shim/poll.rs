//! What the shim waits for.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Connection, OUTPUT_BACKLOG, ProcessKey, Role};
use super::process::STDIN_BACKLOG;
use super::{CONTAINER, Shim, State};

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Signals,
    Listener,
    Connection(u32),
    Output(ProcessKey, usize),
    Input(ProcessKey),
    Child(usize),
}

impl Shim {
    /// Waits until something can be done.
    pub(super) fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Signals];
        let mut polled = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(listener) = &self.listener {
            sources.push(Source::Listener);
            polled.push(PollFd::new(listener, PollFlags::IN));
        }
        for (key, connection) in &self.connections {
            let mut flags = PollFlags::empty();
            if !connection.read_closed && self.wants_input(connection) {
                flags |= PollFlags::IN;
            }
            if connection.backlog() > 0 {
                flags |= PollFlags::OUT;
            }
            sources.push(Source::Connection(*key));
            polled.push(PollFd::new(&connection.stream, flags));
        }
        for (key, process) in &self.processes {
            // An exec's client first learns that it runs: its output waits in the pipe until then.
            let early = *key != CONTAINER && process.pid.is_none();
            let blocked = early || (process.exit.is_none() && self.has_slow_client(*key));
            for (index, output) in process.outputs.iter().enumerate() {
                if let (Some(output), false) = (output, blocked) {
                    sources.push(Source::Output(*key, index));
                    polled.push(PollFd::new(output, PollFlags::IN));
                }
            }
            if let (Some(stdin), false) = (&process.stdin, process.pending.is_empty()) {
                sources.push(Source::Input(*key));
                polled.push(PollFd::new(stdin, PollFlags::OUT));
            }
        }
        for (index, child) in self.children.iter().enumerate() {
            for fd in [
                child.reports.as_ref().map(AsFd::as_fd),
                child.console.as_ref().map(AsFd::as_fd),
                child.console_peer.as_ref().map(AsFd::as_fd),
            ]
            .into_iter()
            .flatten()
            {
                sources.push(Source::Child(index));
                polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        let timeout = self.next_deadline().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = polled.iter().zip(sources).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, source)| source).collect())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let own = match self.state {
            State::Empty(deadline) if self.connections.is_empty() => Some(deadline),
            State::Ended(deadline) => Some(deadline),
            State::Empty(_) | State::Creating | State::Created | State::Running => None,
        };
        self.processes.values().filter_map(|process| process.drain_deadline).chain(own).min()
    }

    pub(super) fn wants_input(&self, connection: &Connection) -> bool {
        match connection.role {
            Role::Stream { process, stdin: true, .. } => {
                self.processes.get(&process).is_none_or(|process| process.pending.len() < STDIN_BACKLOG)
            }
            _ => true,
        }
    }

    pub(super) fn has_slow_client(&self, key: ProcessKey) -> bool {
        self.connections.values().any(|connection| {
            matches!(connection.role, Role::Stream { process, .. } if process == key)
                && connection.backlog() >= OUTPUT_BACKLOG
        })
    }
}
