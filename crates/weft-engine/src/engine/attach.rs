//! Attaching to a container's streams, and the size of its terminal.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::io::AsyncWrite;

use super::{Engine, Result};
use crate::container::record::Phase;
use crate::error::EngineError;
use crate::options::{AttachOptions, AttachedStreams, LogOptions, OutputStream};
use crate::shim::protocol::{Reply, Request};
use crate::shim_client::{Pump, PumpClient};

impl Engine {
    /// Attaches to its streams, also before it is started.
    pub async fn attach(self: &Arc<Self>, term: &str, options: AttachOptions) -> Result<AttachedStreams> {
        let container = self.find(term)?;
        let state = container.state();
        if state.paused {
            return Err(EngineError::Conflict(format!(
                "container {} is paused, unpause the container before attach",
                container.id
            )));
        }
        let tty = container.with(|record| record.tty());
        let open_stdin = container.with(|record| record.config.open_stdin == Some(true));
        let history = match options.logs {
            true => {
                let logs =
                    LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
                Some(self.logs(term, logs).await?.output)
            }
            false => None,
        };
        if !options.stream {
            let output: OutputStream = history.unwrap_or_else(|| Box::pin(futures_util::stream::empty()));
            return Ok(AttachedStreams { stdin: None, output, tty });
        }
        let (pump, client) = Pump::new(options.stdin && open_stdin, options.stdout, options.stderr);
        if state.phase == Phase::Running {
            self.attach_pump(&container, pump).await?;
        } else {
            container.pending_pumps().push(pump);
        }
        self.container_event(&container, "attach", &[]);
        let mut streams = into_streams(client, tty);
        if let Some(history) = history {
            streams.output = Box::pin(history.chain(streams.output));
        }
        Ok(streams)
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, term: &str, height: u16, width: u16) -> Result<()> {
        let container = self.find(term)?;
        if container.state().phase != Phase::Running {
            return Err(EngineError::NotRunning(container.id.to_string()));
        }
        match container.shim().request(&Request::Resize { exec: None, height, width }).await? {
            Reply::Failed { reason, .. } => Err(EngineError::Refused(reason)),
            _ => {
                let size = [("height", height.to_string()), ("width", width.to_string())];
                self.container_event(&container, "resize", &size);
                Ok(())
            }
        }
    }
}

/// The client's end of a pump as the API wants it.
pub(super) fn into_streams(client: PumpClient, tty: bool) -> AttachedStreams {
    let mut receiver = client.output;
    let output = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let stdin = client.stdin.map(|stdin| Box::pin(stdin) as std::pin::Pin<Box<dyn AsyncWrite + Send>>);
    AttachedStreams { stdin, output: Box::pin(output), tty }
}
