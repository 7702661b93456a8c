//! What the daemon asks for, connection by connection.

use std::io;
use std::os::unix::net::UnixListener;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Connection, Role};
use super::process::eprint_line;
use super::protocol::{Reply, Request, take_request};
use super::{CONTAINER, Shim, State};

impl Shim {
    pub(super) fn accept(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            // The socket's directory is closed to others; a second look costs nothing.
            let trusted = rustix::net::sockopt::socket_peercred(&stream)
                .is_ok_and(|peer| peer.uid == rustix::process::geteuid());
            if let (true, Ok(connection)) = (trusted, Connection::new(stream)) {
                self.connections.insert(self.next_connection, connection);
                self.next_connection += 1;
            }
        }
    }

    pub(super) fn on_connection(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        connection.flush();
        let role = connection.role;
        if connection.dead {
            return;
        }
        if connection.read_closed {
            // Polled without wish to read and yet ready: the peer has hung up completely.
            connection.dead = connection.backlog() == 0 && is_hung_up(connection);
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = self.connections.get_mut(&key).and_then(|connection| connection.receive(&mut buffer));
        match (received, role) {
            (None, _) => {}
            (Some(0), _) => self.on_half_close(key, role),
            (Some(count), Role::New) => self.on_request_bytes(key, &buffer[..count]),
            (Some(count), Role::Stream { process, stdin: true, .. }) => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.feed(&buffer[..count]);
                }
            }
            // Nobody asked for it.
            (Some(_), _) => {}
        }
        self.buffer = buffer;
    }

    pub(super) fn on_half_close(&mut self, key: u32, role: Role) {
        match role {
            Role::Stream { process, stdin: true, .. } => {
                let once = process != CONTAINER || self.config.stdin_once;
                if let (true, Some(process)) = (once, self.processes.get_mut(&process)) {
                    process.end_stdin();
                }
            }
            Role::Stream { .. } | Role::Finishing => {}
            Role::New | Role::Watcher { .. } => {
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.dead = true;
                }
            }
        }
    }

    /// Lets go of peers that are gone, however that was noticed: also by an answer that could not be sent any more.
    pub(super) fn drop_dead(&mut self) {
        let gone: Vec<Role> = self.connections.values().filter(|c| c.dead).map(|c| c.role).collect();
        self.connections.retain(|_, connection| !connection.dead);
        gone.into_iter().for_each(|role| self.on_hang_up(role));
    }

    /// The peer is gone.
    fn on_hang_up(&mut self, role: Role) {
        match role {
            Role::Watcher { creator: true } if matches!(self.state, State::Creating | State::Created) => {
                eprint_line("the creator went away before the start; undoing");
                self.kill_container();
            }
            // The creator, killed before it could say what it wants.
            Role::New => self.abandon(),
            // A client that vanishes has no more input either.
            Role::Stream { process, stdin: true, .. } if process != CONTAINER => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.end_stdin();
                }
            }
            _ => {}
        }
    }

    /// Its runtime as well: that one is the first process's parent until it ends, and waits for word to go on.
    pub(super) fn kill_container(&mut self) {
        let first = self.processes.get(&CONTAINER).and_then(|process| process.pid);
        let runtime = self.children.iter().find(|child| child.process == CONTAINER).map(|child| child.pid);
        for pid in first.into_iter().chain(runtime) {
            send_signal(pid, rustix::process::Signal::KILL);
        }
    }

    pub(super) fn on_request_bytes(&mut self, key: u32, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        connection.input.extend_from_slice(bytes);
        match take_request(&mut connection.input) {
            Ok(None) => {}
            Ok(Some(request)) => {
                let rest = std::mem::take(&mut connection.input);
                if let Err(error) = self.on_request(key, request) {
                    self.fail(key, error.to_string(), 128);
                } else if let Some(Role::Stream { process, stdin: true, .. }) =
                    self.connections.get(&key).map(|connection| connection.role)
                    && let Some(process) = self.processes.get_mut(&process)
                {
                    process.feed(&rest);
                }
            }
            Err(error) => self.fail(key, error.to_string(), 128),
        }
    }

    pub(super) fn fail(&mut self, key: u32, reason: String, exit_code: i64) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.finish(&Reply::Failed { reason, exit_code });
        }
    }

    pub(super) fn on_request(&mut self, key: u32, request: Request) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        match request {
            Request::Create => {
                connection.role = Role::Watcher { creator: true };
                self.create()?;
            }
            Request::Abandon => {
                connection.role = Role::Watcher { creator: false };
                self.abandon();
            }
            Request::Start => self.start(key)?,
            // Daemons create and then watch: this one is another than that which started the shim, which is gone.
            // It waits for the end, since the next start works in the same places.
            Request::Watch if matches!(self.state, State::Empty(_)) => {
                connection.role = Role::Watcher { creator: false };
                connection.reply(&Reply::Done);
                self.abandon();
            }
            Request::Watch => {
                connection.role = Role::Watcher { creator: false };
                let pid = self.processes.get(&CONTAINER).and_then(|process| process.pid);
                match (self.state, pid) {
                    (State::Running, Some(pid)) => connection.reply(&Reply::Started { pid }),
                    _ => connection.reply(&Reply::Done),
                }
            }
            Request::Signal { signal } => {
                let signal = rustix::process::Signal::from_named_raw(signal)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no such signal"))?;
                let running = self.processes.get(&CONTAINER).filter(|process| process.exit.is_none());
                match running.and_then(|process| process.pid) {
                    Some(pid) => {
                        send_signal(pid, signal);
                        connection.finish(&Reply::Done);
                    }
                    None => self.fail(key, "process already finished".to_owned(), 128),
                }
            }
            Request::Resize { exec, height, width } => {
                let wanted = exec.unwrap_or_default();
                match self.processes.values_mut().find(|process| process.exec_id == wanted) {
                    Some(process) => {
                        process.resize(height, width)?;
                        connection.finish(&Reply::Done);
                    }
                    None => self.fail(key, "process does not exist".to_owned(), 128),
                }
            }
            Request::Attach { stdin, stdout, stderr } => {
                connection.role = Role::Stream { process: CONTAINER, stdin, stdout, stderr };
                connection.reply(&Reply::Done);
            }
            Request::Exec(exec) => self.exec(key, *exec)?,
        }
        Ok(())
    }
}

fn is_hung_up(connection: &Connection) -> bool {
    let mut polled = [PollFd::new(&connection.stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

fn send_signal(pid: i32, signal: rustix::process::Signal) {
    // Safe against reuse: a pid stays ours until this process has reaped it.
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
