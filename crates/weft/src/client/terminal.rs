//! The user's terminal: raw while a container has it, its size, and the change of its size.

use std::os::fd::AsFd as _;

use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};

use super::connection::{Call, Daemon};

/// Whether standard input is a terminal.
pub(super) fn stdin_is_terminal() -> bool {
    termios::isatty(std::io::stdin().as_fd())
}

/// Another mode of standard input, undone on drop.
pub(super) struct RawMode(Termios);

impl RawMode {
    /// Switches to raw mode; `None` when standard input is no terminal.
    pub(super) fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The process ends next: there is nobody left to tell of a failure.
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// Keeps what is typed off the screen until it is dropped.
pub(super) fn without_echo() -> Option<RawMode> {
    let stdin = std::io::stdin();
    let before = termios::tcgetattr(stdin.as_fd()).ok()?;
    let mut silent = before.clone();
    silent.local_modes -= termios::LocalModes::ECHO;
    termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &silent).ok()?;
    Some(RawMode(before))
}

/// Rows and columns of the terminal.
fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(std::io::stdout().as_fd()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Tells the daemon the size at `path` now and whenever it changes; runs until dropped.
pub(super) async fn follow_size(daemon: &Daemon, path: &str) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some((rows, columns)) = size() {
            let call = Call::post(path).query("h", rows).query("w", columns);
            // A container that has just ended cannot be resized, and nobody misses it.
            let _ = daemon.json(call).await;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}
