//! The daemon's side of a shim: starting it, one connection per operation, and pumping streams.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;

use crate::config::Reexec;
use crate::error::EngineError;
use crate::options::StreamKind;
use crate::shim::SOCKET;
use crate::shim::bundle::{Bundle, ShimConfig};
use crate::shim::protocol::{
    ExitStatus, FRAME_HEADER, FRAME_REPLY, FRAME_STDERR, Reply, Request, parse_header,
};

/// How long a shim may take until it listens.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one may take to undo what it has prepared.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunks of output that may wait for the API's client.
const OUTPUT_DEPTH: usize = 4;
/// Input that may wait for the shim.
const INPUT_BUFFER: usize = 64 * 1024;

type Result<T> = std::result::Result<T, EngineError>;

/// A shim that may be running.
#[derive(Debug, Clone)]
pub(crate) struct ShimClient {
    container: String,
    bundle: Bundle,
}

impl ShimClient {
    pub(crate) fn new(container: &str, bundle: Bundle) -> Self {
        Self { container: container.to_owned(), bundle }
    }

    fn error(&self, detail: impl Into<String>) -> EngineError {
        EngineError::Shim { container: self.container.clone(), detail: detail.into() }
    }

    /// Starts the shim of a bundle; returns once it listens. With the end of the connection it is undone, until
    /// [`Request::Create`] is sent on it: for that the bundle must be complete.
    pub(crate) async fn spawn(&self, config: &ShimConfig, reexec: &Reexec) -> Result<ShimConnection> {
        let path = self.bundle.shim_config();
        let bytes = serde_json::to_vec(config).map_err(|error| self.error(error.to_string()))?;
        std::fs::write(&path, bytes).map_err(EngineError::file("write", path))?;
        let log = self.bundle.shim_log();
        let log = File::create(&log).map_err(EngineError::file("create", log))?;
        let mut command = tokio::process::Command::from(reexec.command("shim"));
        command.arg(self.bundle.path()).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(EngineError::file("start", &reexec.exe))?;
        let mut stdout = child.stdout.take().ok_or_else(|| self.error("no standard output"))?;
        // Collects the exit of the shim while this daemon lives; afterwards init does.
        tokio::spawn(async move { child.wait().await });
        let mut word = [0u8; crate::shim::READY.len()];
        match tokio::time::timeout(READY_TIMEOUT, stdout.read_exact(&mut word)).await {
            Ok(Ok(_)) if word == crate::shim::READY => self.connect().await,
            Err(_) => Err(self.error("does not listen in time")),
            _ => {
                let log = std::fs::read_to_string(self.bundle.shim_log()).unwrap_or_default();
                Err(self.error(format!("did not start: {}", log.trim())))
            }
        }
    }

    async fn connect(&self) -> Result<ShimConnection> {
        let failed = |error: std::io::Error| self.error(format!("connect: {error}"));
        let (_dir, path) = self.bundle.short_path(SOCKET).map_err(failed)?;
        let stream = UnixStream::connect(path).await.map_err(failed)?;
        Ok(ShimConnection { stream, container: self.container.clone() })
    }

    /// A connection with its request sent.
    pub(crate) async fn open(&self, request: &Request) -> Result<ShimConnection> {
        let mut connection = self.connect().await?;
        connection.send(request).await?;
        Ok(connection)
    }

    /// An operation with one answer.
    pub(crate) async fn request(&self, request: &Request) -> Result<Reply> {
        self.open(request).await?.reply().await
    }
}

/// A connection to a shim.
pub(crate) struct ShimConnection {
    stream: UnixStream,
    container: String,
}

/// What a shim sends.
pub(crate) enum Frame {
    Output(StreamKind, Bytes),
    Reply(Reply),
}

impl ShimConnection {
    fn error(&self, detail: impl Into<String>) -> EngineError {
        EngineError::Shim { container: self.container.clone(), detail: detail.into() }
    }

    /// Says what it is for.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_vec(request).map_err(|error| self.error(error.to_string()))?;
        line.push(b'\n');
        self.stream.write_all(&line).await.map_err(|error| self.error(format!("connect: {error}")))
    }

    /// Has a shim undo what it prepared for a container that will not be created.
    pub(crate) async fn abandon(mut self) -> Result<()> {
        self.send(&Request::Abandon).await?;
        match tokio::time::timeout(ABANDON_TIMEOUT, self.exited()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.error("closed the connection")),
            Err(_) => Err(self.error("does not end in time")),
        }
    }

    /// The next reply.
    pub(crate) async fn reply(&mut self) -> Result<Reply> {
        loop {
            match read_frame(&mut self.stream).await {
                Ok(Some(Frame::Reply(reply))) => return Ok(reply),
                Ok(Some(Frame::Output(..))) => {}
                Ok(None) => return Err(self.error("closed the connection")),
                Err(error) => return Err(self.error(error.to_string())),
            }
        }
    }

    /// Waits until the container has ended; `None` when the shim has gone without saying so.
    pub(crate) async fn exited(&mut self) -> Option<ExitStatus> {
        loop {
            match self.reply().await {
                Ok(Reply::Exited(status)) => return Some(status),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Carries streams in tasks of their own until the process has ended. `ended` learns its exit before the client
    /// sees the end of the output: clients ask for the exit code right after it.
    pub(crate) fn pump(self, pump: Pump, ended: impl FnOnce(Option<ExitStatus>) + Send + 'static) {
        let (mut reader, mut writer) = self.stream.into_split();
        let (output, stdin) = (pump.output, pump.stdin);
        let input = tokio::spawn(async move {
            if let Some(mut stdin) = stdin {
                let _ = tokio::io::copy(&mut stdin, &mut writer).await;
                // The client's end of input travels on as a half-close.
                let _ = writer.shutdown().await;
            }
            // Kept open without input: closing it would look like an end of input.
            std::future::pending::<()>().await;
            drop(writer);
        });
        tokio::spawn(async move {
            let exit = pump_output(&mut reader, &output).await;
            input.abort();
            ended(exit);
            drop(output);
        });
    }
}

async fn pump_output(
    reader: &mut OwnedReadHalf,
    output: &mpsc::Sender<std::io::Result<(StreamKind, Bytes)>>,
) -> Option<ExitStatus> {
    loop {
        match read_frame(reader).await {
            Ok(Some(Frame::Output(kind, data))) => {
                // A client that has gone away does not stop the process.
                let _ = output.send(Ok((kind, data))).await;
            }
            Ok(Some(Frame::Reply(Reply::Exited(status)))) => return Some(status),
            Ok(Some(Frame::Reply(_))) => {}
            Ok(None) => return None,
            Err(error) => {
                let _ = output.send(Err(error)).await;
                return None;
            }
        }
    }
}

/// The daemon's end of an attached process.
pub(crate) struct Pump {
    pub(crate) output: mpsc::Sender<std::io::Result<(StreamKind, Bytes)>>,
    pub(crate) stdin: Option<DuplexStream>,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// The client's end.
pub(crate) struct PumpClient {
    pub(crate) output: mpsc::Receiver<std::io::Result<(StreamKind, Bytes)>>,
    pub(crate) stdin: Option<DuplexStream>,
}

impl Pump {
    pub(crate) fn new(stdin: bool, stdout: bool, stderr: bool) -> (Self, PumpClient) {
        let (sender, receiver) = mpsc::channel(OUTPUT_DEPTH);
        let (ours, theirs) = match stdin {
            true => {
                let (ours, theirs) = tokio::io::duplex(INPUT_BUFFER);
                (Some(ours), Some(theirs))
            }
            false => (None, None),
        };
        (Self { output: sender, stdin: ours, stdout, stderr }, PumpClient { output: receiver, stdin: theirs })
    }
}

/// Reads one frame; `None` at the end.
async fn read_frame(reader: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Option<Frame>> {
    let mut header = [0u8; FRAME_HEADER];
    match reader.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (kind, length) = parse_header(header).map_err(std::io::Error::other)?;
    let mut payload = vec![0u8; length];
    reader.read_exact(&mut payload).await?;
    Ok(Some(match kind {
        FRAME_REPLY => Frame::Reply(serde_json::from_slice(&payload)?),
        FRAME_STDERR => Frame::Output(StreamKind::Stderr, payload.into()),
        _ => Frame::Output(StreamKind::Stdout, payload.into()),
    }))
}
