//! Signals that this process gets while it shows a container: they are the container's.

use futures_util::future::select_all;
use tokio::signal::unix::{SignalKind, signal};

use super::connection::{Call, Daemon, escape};

/// What users and their tools send to end or steer a program.
fn passed() -> [(SignalKind, &'static str); 6] {
    [
        (SignalKind::hangup(), "HUP"),
        (SignalKind::interrupt(), "INT"),
        (SignalKind::quit(), "QUIT"),
        (SignalKind::terminate(), "TERM"),
        (SignalKind::user_defined1(), "USR1"),
        (SignalKind::user_defined2(), "USR2"),
    ]
}

/// So many wishes to end are the user's last word, as with docker.
const LAST_WORD: usize = 3;

/// Sends them on; ends when the user wants this process to end whatever the container does.
pub(super) async fn pass_on(daemon: &Daemon, container: &str) {
    let mut heard: Vec<_> =
        passed().into_iter().filter_map(|(kind, name)| Some((signal(kind).ok()?, name))).collect();
    if heard.is_empty() {
        return std::future::pending().await;
    }
    let mut wishes = 0;
    while wishes < LAST_WORD {
        let each = heard.iter_mut().map(|(signal, name)| {
            Box::pin(async move {
                signal.recv().await;
                *name
            })
        });
        let (name, ..) = select_all(each).await;
        // One that has just ended gets none any more, and its end is told elsewhere.
        let call = Call::post(format!("/containers/{}/kill", escape(container))).query("signal", name);
        let _ = daemon.json(call).await;
        wishes += usize::from(matches!(name, "INT" | "TERM"));
    }
}
