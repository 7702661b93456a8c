//! How pull and push get on: a line for each layer that is redrawn on a terminal, and plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use futures_util::StreamExt as _;
use http_body_util::BodyStream;
use hyper::Response;
use hyper::body::Incoming;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;

use super::error::ClientError;
use super::stream;
use super::system::text;

/// Shows the messages of an answer until it ends; one that tells of an error ends the command.
pub(super) async fn follow(response: Response<Incoming>, quiet: bool) -> Result<(), ClientError> {
    let bytes = BodyStream::new(response.into_body()).filter_map(|frame| async {
        frame.map(|frame| frame.into_data().ok()).map_err(std::io::Error::other).transpose()
    });
    let mut lines = StreamReader::new(Box::pin(bytes)).lines();
    let mut layers = Layers::new(quiet);
    while let Some(line) = lines.next_line().await? {
        let message: Value = serde_json::from_str(&line)?;
        if let Some(error) = message["error"].as_str() {
            return Err(ClientError::Daemon { status: 200, message: error.to_owned() });
        }
        layers.show(&message);
    }
    Ok(())
}

struct Layers {
    quiet: bool,
    /// None: nobody looks at a terminal.
    screen: Option<MultiProgress>,
    bars: BTreeMap<String, ProgressBar>,
}

impl Layers {
    fn new(quiet: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal() && !quiet;
        let screen = is_terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Self { quiet, screen, bars: BTreeMap::new() }
    }

    fn show(&mut self, message: &Value) {
        let (id, status) = (text(&message["id"]), text(&message["status"]));
        if status.is_empty() || self.quiet {
            return;
        }
        let amount = &message["progressDetail"];
        let (current, total) = (amount["current"].as_u64(), amount["total"].as_u64());
        match &self.screen {
            None if current.is_some() => {}
            None if id.is_empty() => stream::line(&status),
            None => stream::line(&format!("{id}: {status}")),
            Some(screen) if id.is_empty() => {
                let _ = screen.println(status);
            }
            Some(screen) => {
                let bar = self
                    .bars
                    .entry(id.clone())
                    .or_insert_with(|| screen.add(ProgressBar::no_length().with_prefix(id)));
                bar.set_style(style(current.is_some()));
                bar.set_message(status);
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(current.unwrap_or_else(|| bar.position()));
                bar.tick();
            }
        }
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // What stands on the screen stays there.
        self.bars.values().for_each(ProgressBar::abandon);
    }
}

fn style(with_amount: bool) -> ProgressStyle {
    let template =
        if with_amount { "{prefix}: {msg} [{bar:40}] {bytes}/{total_bytes}" } else { "{prefix}: {msg}" };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
