//! The shim: one small single-threaded process per running container, which outlives the daemon.
//!
//! It is the parent (subreaper) of the container's processes, owns their streams, writes the log and leaves the exit
//! status on disk. It only polls: everything that takes time runs in a [`RuntimeChild`]. A stream that nobody reads
//! stops only itself: each attached client and each exec has a connection of its own.
//!
//! Life: bind the socket, say so on standard output; `create`, `start`; poll; at the end of the container drain its
//! output, remove its cgroups and runtime state, write the exit file, answer the watchers, exit. A creator that goes
//! away before `start` undoes the creation.

pub(crate) mod bundle;
pub(crate) mod connection;
pub(crate) mod log_file;
pub(crate) mod process;
pub(crate) mod protocol;
pub(crate) mod runtime_child;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use self::bundle::{Bundle, ShimConfig};
use self::connection::{Connection, OUTPUT_BACKLOG, ProcessKey, Role};
use self::log_file::LogFile;
use self::process::{Chunk, Process, STDIN_BACKLOG, eprint_line};
use self::protocol::{ExecRequest, ExitStatus, FRAME_STDERR, FRAME_STDOUT, Reply, Request, take_request};
use self::runtime_child::{ChildStreams, Report, RuntimeChild};
use crate::cgroup::Hierarchies;

/// The socket's name in the bundle.
pub(crate) const SOCKET: &str = "shim.sock";
/// What the shim writes to standard output when it listens.
pub(crate) const READY: &[u8] = b"ready\n";
/// The container itself among the processes.
const CONTAINER: ProcessKey = 0;
/// A process that has ended may leave others holding its output; it is given up after this time.
const DRAIN: Duration = Duration::from_secs(2);
/// How long clients get to take the last output.
const LINGER: Duration = Duration::from_secs(10);
/// Read and receive size.
const CHUNK: usize = 16 * 1024;

/// Entry point of `weft shim <bundle>`. The caller has created no thread.
pub fn shim_main(args: impl IntoIterator<Item = impl Into<OsString>>) -> ! {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let code = match &args[..] {
        [bundle] => match run(&Bundle::new(bundle)) {
            Ok(()) => 0,
            Err(error) => {
                eprint_line(&format!("shim: {error}"));
                1
            }
        },
        _ => {
            eprint_line("usage: shim BUNDLE");
            2
        }
    };
    std::process::exit(code)
}

fn run(bundle: &Bundle) -> io::Result<()> {
    // A new session: signals of the daemon's terminal are not for containers.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    std::env::set_current_dir("/")?;
    let config: ShimConfig = serde_json::from_slice(&fs::read(bundle.shim_config())?)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let (_dir, short) = bundle.short_path(SOCKET)?;
    let listener = UnixListener::bind(short)?;
    listener.set_nonblocking(true)?;
    let log = config.log.clone().map(LogFile::open).transpose()?;
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    rustix::stdio::dup2_stdout(fs::OpenOptions::new().write(true).open("/dev/null")?)?;
    let mut shim = Shim {
        bundle: bundle.clone(),
        config,
        hierarchies: Hierarchies::read()?,
        listener: Some(listener),
        signals,
        connections: BTreeMap::new(),
        next_connection: 0,
        processes: BTreeMap::new(),
        next_process: CONTAINER + 1,
        children: Vec::new(),
        unclaimed: BTreeMap::new(),
        log,
        state: State::Empty,
        starter: None,
        buffer: vec![0; CHUNK],
    };
    shim.poll_until_done()
}

/// Where the container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not created yet.
    Empty,
    /// The runtime is at it.
    Creating,
    /// Waits for its start.
    Created,
    /// Runs.
    Running,
    /// Everything is done; last output goes to the clients until then.
    Ended(Instant),
}

struct Shim {
    bundle: Bundle,
    config: ShimConfig,
    hierarchies: Hierarchies,
    listener: Option<UnixListener>,
    signals: SignalFd,
    connections: BTreeMap<u32, Connection>,
    next_connection: u32,
    processes: BTreeMap<ProcessKey, Process>,
    next_process: ProcessKey,
    children: Vec<RuntimeChild>,
    /// Processes that ended before their runtime child had reported their pid.
    unclaimed: BTreeMap<i32, i64>,
    log: Option<LogFile>,
    state: State,
    /// Who asked for the start: answered once the runtime has noted it, so that an exec finds the container running.
    starter: Option<u32>,
    buffer: Vec<u8>,
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Connection(u32),
    Output(ProcessKey, usize),
    Input(ProcessKey),
    Child(usize),
}

impl Shim {
    fn poll_until_done(&mut self) -> io::Result<()> {
        loop {
            if let State::Ended(deadline) = self.state
                && (self.connections.is_empty() || Instant::now() > deadline)
            {
                return Ok(());
            }
            for source in self.wait()? {
                match source {
                    Source::Signals => while let Ok(Some(_)) = self.signals.read_signal() {},
                    Source::Listener => self.accept(),
                    Source::Connection(key) => self.on_connection(key),
                    Source::Output(key, index) => self.on_output(key, index),
                    Source::Input(key) => {
                        if let Some(process) = self.processes.get_mut(&key) {
                            process.pump_stdin();
                        }
                    }
                    Source::Child(index) => self.on_child(index),
                }
            }
            self.reap();
            self.finish_processes();
            self.connections.retain(|_, connection| !connection.dead);
        }
    }

    /// Waits until something can be done.
    fn wait(&self) -> io::Result<Vec<Source>> {
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

    fn next_deadline(&self) -> Option<Instant> {
        let ended = if let State::Ended(deadline) = self.state { Some(deadline) } else { None };
        self.processes.values().filter_map(|process| process.drain_deadline).chain(ended).min()
    }

    fn wants_input(&self, connection: &Connection) -> bool {
        match connection.role {
            Role::Stream { process, stdin: true, .. } => {
                self.processes.get(&process).is_none_or(|process| process.pending.len() < STDIN_BACKLOG)
            }
            _ => true,
        }
    }

    fn has_slow_client(&self, key: ProcessKey) -> bool {
        self.connections.values().any(|connection| {
            matches!(connection.role, Role::Stream { process, .. } if process == key)
                && connection.backlog() >= OUTPUT_BACKLOG
        })
    }

    fn accept(&mut self) {
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

    fn on_connection(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        connection.flush();
        let role = connection.role;
        if connection.dead {
            return self.on_hang_up(key, role);
        }
        if connection.read_closed {
            // Polled without wish to read and yet ready: the peer has hung up completely.
            if connection.backlog() == 0 && is_hung_up(connection) {
                connection.dead = true;
                self.on_hang_up(key, role);
            }
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

    fn on_half_close(&mut self, key: u32, role: Role) {
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
                self.on_hang_up(key, role);
            }
        }
    }

    /// The peer is gone.
    fn on_hang_up(&mut self, _key: u32, role: Role) {
        match role {
            Role::Watcher { creator: true } if matches!(self.state, State::Creating | State::Created) => {
                eprint_line("the creator went away before the start; undoing");
                self.kill_container();
            }
            // A client that vanishes has no more input either.
            Role::Stream { process, stdin: true, .. } if process != CONTAINER => {
                if let Some(process) = self.processes.get_mut(&process) {
                    process.end_stdin();
                }
            }
            _ => {}
        }
    }

    fn kill_container(&mut self) {
        if let Some(pid) = self.processes.get(&CONTAINER).and_then(|process| process.pid) {
            send_signal(pid, rustix::process::Signal::KILL);
        } else if let Some(child) = self.children.iter().find(|child| child.process == CONTAINER) {
            send_signal(child.pid, rustix::process::Signal::KILL);
        }
    }

    fn on_request_bytes(&mut self, key: u32, bytes: &[u8]) {
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

    fn fail(&mut self, key: u32, reason: String, exit_code: i64) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.finish(&Reply::Failed { reason, exit_code });
        }
    }

    fn on_request(&mut self, key: u32, request: Request) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        match request {
            Request::Create => {
                connection.role = Role::Watcher { creator: true };
                self.create()?;
            }
            Request::Start => self.start(key)?,
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

    fn create(&mut self) -> io::Result<()> {
        if self.state != State::Empty {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "already created"));
        }
        let mut process = Process::default();
        let owner = (self.config.uid, self.config.gid);
        let streams = open_streams(&mut process, self.config.tty, self.config.open_stdin, owner)?;
        let child =
            RuntimeChild::spawn(&self.config, &self.bundle, CONTAINER, None, self.config.tty, streams)?;
        self.processes.insert(CONTAINER, process);
        self.children.push(child);
        self.state = State::Creating;
        Ok(())
    }

    fn start(&mut self, key: u32) -> io::Result<()> {
        if self.state != State::Created {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not created"));
        }
        if let Some(child) = self.children.iter_mut().find(|child| child.process == CONTAINER) {
            child.go()?;
        }
        self.state = State::Running;
        self.starter = Some(key);
        Ok(())
    }

    fn answer_starter(&mut self, reply: &Reply) {
        if let Some(connection) = self.starter.take().and_then(|key| self.connections.get_mut(&key)) {
            connection.finish(reply);
        }
    }

    fn exec(&mut self, key: u32, request: ExecRequest) -> io::Result<()> {
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

    fn on_child(&mut self, index: usize) {
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

    fn on_report(&mut self, key: ProcessKey, report: Report) {
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
    fn tell(&mut self, key: ProcessKey, reply: &Reply) {
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

    fn on_start_failure(&mut self, key: ProcessKey, reason: String, exit_code: i64) {
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

    fn on_output(&mut self, key: ProcessKey, index: usize) {
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
    fn reap(&mut self) {
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

    fn on_exit(&mut self, pid: i32, code: i64) {
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

    fn on_child_exit(&mut self, index: usize, code: i64) {
        // Its last reports may be unread.
        self.on_child(index);
        let child = self.children.remove(index);
        let key = child.process;
        let unreported = self.processes.get(&key).is_some_and(|process| process.pid.is_none());
        if unreported {
            let reason = format!("the runtime ended with {code} before it had reported");
            self.on_start_failure(key, reason, 128);
        }
        if self.children.is_empty() {
            self.unclaimed.clear();
        }
    }

    /// Ends processes that have exited and whose output has been read or is given up.
    fn finish_processes(&mut self) {
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

    fn finish_streams(&mut self, key: ProcessKey, exit: &ExitStatus) {
        for connection in self.connections.values_mut() {
            if matches!(connection.role, Role::Stream { process, .. } if process == key) {
                connection.finish(&Reply::Exited(exit.clone()));
            }
        }
    }

    /// The container has ended: leave nothing behind, then tell.
    fn end(&mut self, exit: ExitStatus) {
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
    fn reap_execs(&mut self) {
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

fn is_hung_up(connection: &Connection) -> bool {
    let mut polled = [PollFd::new(&connection.stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn send_signal(pid: i32, signal: rustix::process::Signal) {
    // Safe against reuse: a pid stays ours until this process has reaped it.
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
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
