//! The shim: one small single-threaded process per running container, which outlives the daemon.
//!
//! It is the parent (subreaper) of the container's processes, owns their streams, writes the log and leaves the exit
//! status on disk. It only polls: everything that takes time runs in a [`RuntimeChild`]. A stream that nobody reads
//! stops only itself: each attached client and each exec has a connection of its own.
//!
//! Life: bind the socket, start the runtime, say so on standard output; `create`, `start`; poll; at the end of the
//! container drain its output, remove its cgroups and runtime state, write the exit file, answer the watchers, exit. A
//! creator that goes away before `start`, or abandons, undoes the creation; without any, the shim ends.

pub(crate) mod bundle;
mod clients;
pub(crate) mod connection;
mod ending;
mod launch;
pub(crate) mod log_file;
mod poll;
pub(crate) mod process;
pub(crate) mod protocol;
pub(crate) mod runtime_child;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use self::bundle::{Bundle, ShimConfig};
use self::connection::{Connection, ProcessKey};
use self::log_file::LogFile;
use self::poll::Source;
use self::process::{Process, eprint_line};
use self::runtime_child::RuntimeChild;
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
/// How long a shim waits for its creator: the daemon may have been killed since it started the shim.
const CREATOR: Duration = Duration::from_secs(10);
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
        state: State::Empty(Instant::now() + CREATOR),
        starter: None,
        unfit: None,
        buffer: vec![0; CHUNK],
    };
    shim.prepare()?;
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    rustix::stdio::dup2_stdout(fs::OpenOptions::new().write(true).open("/dev/null")?)?;
    shim.poll_until_done()
}

/// Where the container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not created yet. Nobody will, from then on.
    Empty(Instant),
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
    /// Why the runtime failed before anybody asked for the container, and its exit code.
    unfit: Option<(String, i64)>,
    buffer: Vec<u8>,
}

impl Shim {
    fn poll_until_done(&mut self) -> io::Result<()> {
        loop {
            match self.state {
                State::Ended(deadline) if self.connections.is_empty() || Instant::now() > deadline => {
                    return Ok(());
                }
                // Another shim may be at work in the bundle by now: nothing is touched. The runtime ends by itself.
                State::Empty(deadline) if self.connections.is_empty() && Instant::now() > deadline => {
                    self.children.drain(..).for_each(std::mem::forget);
                    return Ok(());
                }
                _ => {}
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
            self.drop_dead();
        }
    }
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}
