//! The way to a running process: a runtime child, its streams, its reports.

use std::fs;
use std::io;
use std::process::Stdio;

use rustix::pipe::{PipeFlags, pipe_with};

use super::connection::{ProcessKey, Role};
use super::process::{Process, eprint_line};
use super::protocol::{ExecRequest, ExitStatus, Reply};
use super::runtime_child::{ChildStreams, Report, RuntimeChild};
use super::{CONTAINER, Shim, State, now};

impl Shim {
    /// Starts the runtime ahead of the bundle: until that is complete it has its cgroup entered.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        let mut process = Process::default();
        let owner = (self.config.uid, self.config.gid);
        let streams = open_streams(&mut process, self.config.tty, self.config.open_stdin, owner)?;
        let child =
            RuntimeChild::spawn(&self.config, &self.bundle, CONTAINER, None, self.config.tty, streams)?;
        self.processes.insert(CONTAINER, process);
        self.children.push(child);
        Ok(())
    }

    pub(super) fn create(&mut self) -> io::Result<()> {
        if !matches!(self.state, State::Empty(_)) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "already created"));
        }
        self.state = State::Creating;
        match self.unfit.take() {
            Some((reason, exit_code)) => self.on_start_failure(CONTAINER, reason, exit_code),
            None => self.runtime_goes_on()?,
        }
        Ok(())
    }

    pub(super) fn start(&mut self, key: u32) -> io::Result<()> {
        if self.state != State::Created {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not created"));
        }
        self.runtime_goes_on()?;
        self.state = State::Running;
        self.starter = Some(key);
        Ok(())
    }

    /// Nobody will create the container: what the runtime has made for it goes with the runtime's end.
    pub(super) fn abandon(&mut self) {
        if !matches!(self.state, State::Empty(_)) {
            return;
        }
        self.state = State::Creating;
        match self.unfit.take() {
            Some((reason, exit_code)) => self.on_start_failure(CONTAINER, reason, exit_code),
            None => self.kill_container(),
        }
    }

    fn runtime_goes_on(&mut self) -> io::Result<()> {
        let runtime = self.children.iter_mut().find(|child| child.process == CONTAINER);
        runtime.map_or(Ok(()), RuntimeChild::go_on)
    }

    pub(super) fn answer_starter(&mut self, reply: &Reply) {
        if let Some(connection) = self.starter.take().and_then(|key| self.connections.get_mut(&key)) {
            connection.finish(reply);
        }
    }

    pub(super) fn exec(&mut self, key: u32, request: ExecRequest) -> io::Result<()> {
        if self.state != State::Running {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "container is not running"));
        }
        let process_key = self.next_process;
        self.next_process += 1;
        let file = self.bundle.path().join(format!("exec-{process_key}.json"));
        fs::write(&file, serde_json::to_vec(&request.process)?)?;
        let id = |name: &str| {
            request.process.pointer(&format!("/user/{name}")).and_then(|value| value.as_u64()).unwrap_or(0)
                as u32
        };
        let mut process = Process { exec_id: request.id.clone(), ..Process::default() };
        if let Some(size) = request.process.get("consoleSize") {
            let side = |name: &str| size.get(name).and_then(|value| value.as_u64()).unwrap_or(0) as u16;
            process.wanted_size = Some((side("height"), side("width")));
        }
        let streams = open_streams(&mut process, request.tty, request.stdin, (id("uid"), id("gid")))?;
        let child =
            RuntimeChild::spawn(&self.config, &self.bundle, process_key, Some(&file), request.tty, streams)?;
        self.processes.insert(process_key, process);
        self.children.push(child);
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.role = Role::Stream {
                process: process_key,
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
            };
        }
        Ok(())
    }

    pub(super) fn on_child(&mut self, index: usize) {
        let Some(child) = self.children.get_mut(index) else { return };
        let key = child.process;
        if let Some(terminal) = child.receive_terminal()
            && let Some(process) = self.processes.get_mut(&key)
            && let Err(error) = process.set_terminal(terminal)
        {
            eprint_line(&format!("terminal: {error}"));
        }
        for report in self.children[index].read_reports() {
            self.on_report(key, report);
        }
    }

    pub(super) fn on_report(&mut self, key: ProcessKey, report: Report) {
        match report {
            Report::Ready { pid } => {
                if let Some(process) = self.processes.get_mut(&key) {
                    process.pid = Some(pid);
                }
                if key == CONTAINER {
                    self.state = State::Created;
                }
                self.tell(key, &Reply::Started { pid });
                if let Some(code) = self.unclaimed.remove(&pid) {
                    self.on_exit(pid, code);
                }
            }
            Report::Running => self.answer_starter(&Reply::Done),
            Report::Failed { reason, exit_code } => self.on_start_failure(key, reason, exit_code),
        }
    }

    /// Answers whoever has asked for process `key`.
    pub(super) fn tell(&mut self, key: ProcessKey, reply: &Reply) {
        for connection in self.connections.values_mut() {
            let concerned = match connection.role {
                Role::Watcher { creator } => key == CONTAINER && creator,
                Role::Stream { process, .. } => key == process && key != CONTAINER,
                Role::New | Role::Finishing => false,
            };
            if concerned {
                connection.reply(reply);
            }
        }
    }

    pub(super) fn on_start_failure(&mut self, key: ProcessKey, reason: String, exit_code: i64) {
        if key == CONTAINER && matches!(self.state, State::Empty(_)) {
            // Nobody has asked yet.
            self.processes.remove(&key);
            self.unfit = Some((reason, exit_code));
            return;
        }
        let failed = Reply::Failed { reason, exit_code };
        if key == CONTAINER {
            self.answer_starter(&failed);
        }
        self.tell(key, &failed);
        self.processes.remove(&key);
        for connection in self.connections.values_mut() {
            if matches!(connection.role, Role::Stream { process, .. } if process == key) {
                connection.role = Role::Finishing;
                connection.flush();
            }
        }
        if key == CONTAINER {
            self.end(ExitStatus { code: exit_code, oom_killed: false, time: now() });
        }
    }
}

/// Makes the pipes of a process: our ends go into `process`, the others are for its runtime child.
fn open_streams(
    process: &mut Process,
    tty: bool,
    stdin: bool,
    (uid, gid): (u32, u32),
) -> io::Result<ChildStreams> {
    if tty {
        return Ok(ChildStreams { stdin: Stdio::null(), stdout: Stdio::null(), stderr: Stdio::null() });
    }
    let owner = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    let mut output = |index: usize| -> io::Result<Stdio> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        // Else a process of another user could not open /dev/stdout.
        rustix::fs::fchown(&theirs, Some(owner.0), Some(owner.1))?;
        process.outputs[index] = Some(ours.into());
        Ok(Stdio::from(theirs))
    };
    let (stdout, stderr) = (output(0)?, output(1)?);
    let stdin = if stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        rustix::fs::fchown(&theirs, Some(owner.0), Some(owner.1))?;
        process.stdin = Some(ours.into());
        Stdio::from(theirs)
    } else {
        Stdio::null()
    };
    Ok(ChildStreams { stdin, stdout, stderr })
}
