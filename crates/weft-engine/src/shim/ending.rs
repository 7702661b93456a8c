//! Output, and what is done when a process ends.

use std::fs;
use std::time::Instant;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::connection::{Connection, ProcessKey, Role};
use super::process::{Chunk, eprint_line};
use super::protocol::{ExitStatus, FRAME_STDERR, FRAME_STDOUT, Reply};
use super::{CONTAINER, DRAIN, LINGER, SOCKET, Shim, State, now};

impl Shim {
    pub(super) fn on_output(&mut self, key: ProcessKey, index: usize) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let count = match process.read_output(index, &mut self.buffer) {
            Chunk::Data(count) => count,
            Chunk::Later | Chunk::End => return,
        };
        let data = &self.buffer[..count];
        if key == CONTAINER
            && let Some(log) = &mut self.log
            && let Err(error) = log.write(index, data)
        {
            eprint_line(&format!("log: {error}"));
        }
        let kind = if index == 0 { FRAME_STDOUT } else { FRAME_STDERR };
        for connection in self.connections.values_mut() {
            if let Role::Stream { process, stdout, stderr, .. } = connection.role
                && process == key
                && (if index == 0 { stdout } else { stderr })
            {
                connection.send_frame(kind, data);
            }
        }
    }

    /// Collects processes that have ended, ours and orphans of the container.
    pub(super) fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.on_exit(pid.as_raw(), i64::from(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.on_exit(pid.as_raw(), 128 + i64::from(signal as i32));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    pub(super) fn on_exit(&mut self, pid: i32, code: i64) {
        if let Some(index) = self.children.iter().position(|child| child.pid == pid) {
            return self.on_child_exit(index, code);
        }
        if let Some((key, process)) =
            self.processes.iter_mut().find(|(_, process)| process.pid == Some(pid) && process.exit.is_none())
        {
            let oom_killed = *key == CONTAINER && self.hierarchies.oom_killed(&self.config.cgroup);
            process.exit = Some(ExitStatus { code, oom_killed, time: now() });
            process.drain_deadline = Some(Instant::now() + DRAIN);
            process.stdin = None;
        } else if !self.children.is_empty() {
            self.unclaimed.insert(pid, code);
        }
    }

    pub(super) fn on_child_exit(&mut self, index: usize, code: i64) {
        // Its last reports may be unread.
        self.on_child(index);
        let child = self.children.remove(index);
        let key = child.process;
        let unreported = self.processes.get(&key).is_some_and(|process| process.pid.is_none());
        // Who waits for the start would wait for ever; the process that waits to be started ends with its cgroup.
        let waits = self.state == State::Created || self.starter.is_some();
        if unreported || (key == CONTAINER && waits) {
            let reason = format!("the runtime ended with {code} before it had reported");
            self.on_start_failure(key, reason, 128);
        }
        if self.children.is_empty() {
            self.unclaimed.clear();
        }
    }

    /// Ends processes that have exited and whose output has been read or is given up.
    pub(super) fn finish_processes(&mut self) {
        let now = Instant::now();
        let done: Vec<ProcessKey> = self
            .processes
            .iter()
            .filter(|(_, process)| {
                process.exit.is_some()
                    && (process.is_drained() || process.drain_deadline.is_some_and(|at| at <= now))
            })
            .map(|(key, _)| *key)
            .collect();
        // The container last: its end answers everybody else.
        for key in done.into_iter().rev() {
            let Some(process) = self.processes.remove(&key) else { continue };
            let Some(exit) = process.exit else { continue };
            if key == CONTAINER {
                self.end(exit);
            } else {
                self.finish_streams(key, &exit);
            }
        }
    }

    pub(super) fn finish_streams(&mut self, key: ProcessKey, exit: &ExitStatus) {
        for connection in self.connections.values_mut() {
            if matches!(connection.role, Role::Stream { process, .. } if process == key) {
                connection.finish(&Reply::Exited(exit.clone()));
            }
        }
    }

    /// The container has ended: leave nothing behind, then tell.
    pub(super) fn end(&mut self, exit: ExitStatus) {
        // It ran, however short.
        self.answer_starter(&Reply::Done);
        if let Some(log) = &mut self.log
            && let Err(error) = log.finish()
        {
            eprint_line(&format!("log: {error}"));
        }
        self.log = None;
        if let Err(error) = self.hierarchies.remove(&self.config.cgroup) {
            eprint_line(&format!("cgroups: {error}"));
        }
        let _ = fs::remove_dir_all(self.bundle.state());
        self.reap_execs();
        if let Err(error) = self.bundle.write_exit(&exit) {
            eprint_line(&format!("exit file: {error}"));
        }
        self.listener = None;
        let _ = fs::remove_file(self.bundle.path().join(SOCKET));
        for connection in self.connections.values_mut() {
            match connection.role {
                Role::Watcher { .. } | Role::Stream { .. } => connection.finish(&Reply::Exited(exit.clone())),
                Role::New => connection.dead = true,
                Role::Finishing => {}
            }
        }
        self.processes.clear();
        self.state = State::Ended(Instant::now() + LINGER);
    }

    /// Execs die with the container; their clients learn their own exit code, not the container's.
    pub(super) fn reap_execs(&mut self) {
        self.reap();
        let keys: Vec<ProcessKey> = self.processes.keys().copied().filter(|key| *key != CONTAINER).collect();
        for key in keys {
            for index in 0..2 {
                while self.processes.get(&key).is_some_and(|process| process.outputs[index].is_some()) {
                    let before = self.connections.values().map(Connection::backlog).sum::<usize>();
                    self.on_output(key, index);
                    let after = self.connections.values().map(Connection::backlog).sum::<usize>();
                    if before == after {
                        break;
                    }
                }
            }
            let exit = self.processes.remove(&key).and_then(|process| process.exit);
            let killed = ExitStatus { code: 137, oom_killed: false, time: now() };
            self.finish_streams(key, &exit.unwrap_or(killed));
        }
    }
}
