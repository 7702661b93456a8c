//! Looking at the wire.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Host, LabError, until};

/// Time for tcpdump to open its socket.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// A running capture on an interface of a host; ends when dropped.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Capture {
    /// Starts tcpdump with a filter on an interface of a host and waits until it captures.
    pub fn start(host: &Host, interface: &str, filter: &str) -> Result<Self, LabError> {
        let mut command = host.command("tcpdump");
        command
            .args(["-Z", "root", "-n", "-e", "-l", "--immediate-mode", "-i", interface])
            .args(filter.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| LabError::Start { program: crate::tool::show(&command), source })?;
        let lines = collect(child.stdout.take());
        let messages = collect(child.stderr.take());
        let capture = Self { child, lines };
        until("start of the capture", START_DEADLINE, || {
            lock(&messages).iter().any(|l| l.contains("listening on"))
        })?;
        Ok(capture)
    }

    /// One line per packet seen so far, in tcpdump's form with link-level headers.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    /// Number of packets seen so far.
    pub fn count(&self) -> usize {
        lock(&self.lines).iter().filter(|l| !l.starts_with([' ', '\t'])).count()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have ended by itself; both calls then only say so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(lines: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect(from: Option<impl std::io::Read + Send + 'static>) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&lines);
    if let Some(from) = from {
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                lock(&into).push(line);
            }
        });
    }
    lines
}
