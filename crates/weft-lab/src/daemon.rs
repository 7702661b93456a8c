//! A daemon on a host of a lab: Weft's or Docker's.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::processes::Started;
use crate::{Host, LabError, until};

/// Time for a daemon to answer at its socket.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Time for a daemon to end after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(120);
/// Lines of the log that an error shows.
const LOG_LINES: usize = 15;

/// Which daemon to start on a host.
#[derive(Debug, Clone)]
pub struct DaemonSpec {
    /// The program and its first arguments.
    pub program: Vec<String>,
    /// Name of its files in the host's folder.
    pub name: String,
    /// Further arguments.
    pub args: Vec<String>,
}

impl DaemonSpec {
    /// `weft daemon` with the given binary.
    pub fn weft(exe: &Path) -> Self {
        Self {
            program: vec![exe.display().to_string(), "daemon".to_owned()],
            name: "weft".to_owned(),
            args: Vec::new(),
        }
    }

    /// The machine's `dockerd`.
    pub fn docker() -> Self {
        let args = ["--storage-driver", "overlay2"].map(str::to_owned).to_vec();
        Self { program: vec!["dockerd".to_owned()], name: "docker".to_owned(), args }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }
}

/// A daemon that was started on a host. Dropping this does not stop it: the lab does.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Where it listens.
    pub socket: PathBuf,
    /// What it writes to standard output and error.
    pub log: PathBuf,
    process: Started,
    dir: PathBuf,
    name: String,
}

impl Host {
    /// Starts a daemon and waits until something accepts connections at its socket.
    pub fn start_daemon(&self, spec: &DaemonSpec) -> Result<Daemon, LabError> {
        let at = |suffix: &str| self.dir.join(format!("{}.{suffix}", spec.name));
        let (socket, log, pidfile) = (at("sock"), at("log"), at("pid"));
        let file = |path: &Path, source| LabError::File { path: path.to_owned(), source };
        let output =
            std::fs::File::options().create(true).append(true).open(&log).map_err(|e| file(&log, e))?;
        let errors = output.try_clone().map_err(|e| file(&log, e))?;
        let mut command = self.command(&spec.program[0]);
        command.args(&spec.program[1..]);
        command.arg("--data-root").arg(at("data")).arg("--pidfile").arg(&pidfile);
        command.args(["-H", &format!("unix://{}", socket.display())]).args(&spec.args);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .map_err(|source| LabError::Start { program: crate::tool::show(&command), source })?;
        let ended_at_once = || LabError::Ended { host: self.name.clone(), log: String::new() };
        let process = Started::now(child.id() as i32).ok_or_else(ended_at_once)?;
        std::fs::write(at("started"), process.to_string()).map_err(|e| file(&at("started"), e))?;
        let daemon = Daemon { process, socket, log, dir: self.dir.clone(), name: spec.name.clone() };
        let mut ended = false;
        let answered = until("", START_DEADLINE, || {
            ended = matches!(child.try_wait(), Ok(Some(_)));
            ended || std::os::unix::net::UnixStream::connect(&daemon.socket).is_ok()
        });
        // Nobody waits for it from here on: a thread collects it, so that it does not stay as a zombie.
        std::thread::spawn(move || child.wait());
        match answered {
            Ok(()) if ended => Err(LabError::Ended { host: self.name.clone(), log: daemon.log_tail() }),
            Ok(()) => Ok(daemon),
            Err(_) => Err(daemon.late("the daemon's answer", START_DEADLINE)),
        }
    }
}

impl Daemon {
    /// The daemon of that name which an earlier process started on the host.
    pub fn recorded(host: &Host, name: &str) -> Option<Self> {
        let at = |suffix: &str| host.dir.join(format!("{name}.{suffix}"));
        let process = Started::parse(&std::fs::read_to_string(at("started")).ok()?)?;
        let (dir, name) = (host.dir.clone(), name.to_owned());
        Some(Self { process, socket: at("sock"), log: at("log"), dir, name })
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// The socket as `-H` wants it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGTERM);
        self.wait_gone()
    }

    /// Kills it without warning and waits until it is gone, its sockets included: another daemon in its place would take
    /// it for one that lives.
    pub fn kill(&self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGKILL);
        self.wait_gone()
    }

    /// Whether its process lives.
    pub fn is_alive(&self) -> bool {
        self.process.alive()
    }

    /// The last lines it wrote.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn wait_gone(&self) -> Result<(), LabError> {
        until("", STOP_DEADLINE, || !self.process.alive())
            .map_err(|_| self.late("the daemon's end", STOP_DEADLINE))?;
        let record = self.dir.join(format!("{}.started", self.name));
        std::fs::remove_file(&record).map_err(|source| LabError::File { path: record, source })
    }

    fn late(&self, what: &str, deadline: Duration) -> LabError {
        let detail = format!("; the end of its log {}:\n{}", self.log.display(), self.log_tail());
        LabError::Deadline { what: what.to_owned(), deadline, detail }
    }
}

/// Processes of the daemons that were started on the host with this folder, and live.
pub(crate) fn recorded_pids(dir: &Path) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "started"));
    let started = paths.filter_map(|path| Started::parse(&std::fs::read_to_string(path).ok()?));
    started.filter(|process| process.alive()).map(|process| process.pid).collect()
}
