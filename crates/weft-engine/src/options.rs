//! Arguments and answers of the engine's operations that are not models of the Docker API.

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncWrite;

/// Filters of a list request: `{"status": ["running"]}`.
pub type Filters = BTreeMap<String, Vec<String>>;

/// What a container was created as.
#[derive(Debug, Clone)]
pub struct Created {
    /// The new container.
    pub id: weft_types::ContainerId,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// Signal instead of the container's own stop signal.
    pub signal: Option<String>,
    /// Seconds until SIGKILL; negative waits for ever; `None` takes the container's own (10).
    pub timeout: Option<i64>,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// Which containers to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// Only the newest so many; 0 means all.
    pub limit: usize,
    /// Compute sizes.
    pub size: bool,
    /// Docker's filters.
    pub filters: Filters,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// At once if it does not run now.
    #[default]
    NotRunning,
    /// The next time it exits.
    NextExit,
    /// Until it is removed.
    Removed,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitResult {
    /// Its exit code.
    pub status_code: i64,
    /// Why it could not start, if so.
    pub error: Option<String>,
}

/// The end of a wait: resolves when the condition is met.
pub type WaitFuture = Pin<Box<dyn Future<Output = WaitResult> + Send>>;

/// One of a process's streams; the numbers are those of Docker's stream frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Standard input (only in logs of attach streams; never produced here).
    Stdin = 0,
    /// Standard output, or the terminal.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// What to attach to.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttachOptions {
    /// Send input.
    pub stdin: bool,
    /// Receive output.
    pub stdout: bool,
    /// Receive errors.
    pub stderr: bool,
    /// First what the log has.
    pub logs: bool,
    /// Stay attached; without it only the log is sent.
    pub stream: bool,
}

/// A stream of output of a process.
pub type OutputStream = Pin<Box<dyn Stream<Item = std::io::Result<(StreamKind, Bytes)>> + Send>>;

/// The two directions of an attached process. The output ends when the process has ended.
pub struct AttachedStreams {
    /// Input; `None` if not asked for. `shutdown` half-closes it.
    pub stdin: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// Output.
    pub output: OutputStream,
    /// Whether the process has a terminal: then the API sends raw bytes instead of frames.
    pub tty: bool,
}

/// What to read from a log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on until the container ends.
    pub follow: bool,
    /// Put the time in front of each line.
    pub timestamps: bool,
    /// Put attributes in front of each line.
    pub details: bool,
    /// Lines not before this time (seconds since the epoch, with fraction in nanoseconds).
    pub since: Option<(i64, u32)>,
    /// Lines not after this time.
    pub until: Option<(i64, u32)>,
    /// Only the last so many lines; `None` means all.
    pub tail: Option<usize>,
}

/// A log on its way.
pub struct LogStream {
    /// Lines, as attach would give them.
    pub output: OutputStream,
    /// Whether the container has a terminal.
    pub tty: bool,
}

/// Bytes on their way.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// What an image of a container shall be.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Its name; without one it has none.
    pub repo: String,
    /// `latest` if empty.
    pub tag: String,
    /// Message.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Pause the container meanwhile, so that files are as of one moment.
    pub pause: bool,
    /// Dockerfile instructions (`CMD ["sh"]`, `ENV a=b`).
    pub changes: Vec<String>,
    /// What a container of it runs, as the API's `ContainerConfig`; the container's own for what is left open.
    pub config: Option<serde_json::Value>,
}

/// How to unpack files into a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtractOptions {
    /// No directory makes way for something else, nor the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything becomes the container's user's, if it has one.
    pub copy_uid_gid: bool,
}

/// How to start an exec.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecStartOptions {
    /// Do not stay connected.
    pub detach: bool,
    /// Height and width of the terminal.
    pub console_size: Option<(u16, u16)>,
}
