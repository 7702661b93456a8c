//! Turns services into tasks on nodes, on the manager that leads.
//!
//! ```text
//! commits, timers -> News (what is dirty)
//!   -> Orchestrator: which tasks shall be      \
//!   -> Pipeline: addresses, ports, nodes        > one transaction -> proposed -> commits
//!   -> balance: addresses of Docker's nodes    /
//! ```
//!
//! Invariants: what was dirty is forgotten only when everything computed from it took effect or nothing had to be
//! done; a transaction is computed from one view and refused as a whole when that view is out of date. Nothing here
//! outlives a leadership: everything is derived from the store, and a new leader looks at everything once.

mod balance;
mod driver;
mod news;
mod predefined;

#[cfg(test)]
mod driver_test;
#[cfg(test)]
mod news_test;

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::brain::Brain;
use crate::store::Commit;
use driver::Driver;
use news::News;

/// Until the next attempt after a failed one.
const RETRY: Duration = Duration::from_secs(1);
/// Longest sleep: the clock may be set meanwhile.
const LONGEST: Duration = Duration::from_secs(30);

/// Drives until the manager stops. Dropped when the leadership ends.
pub(crate) async fn run(brain: Weak<Brain>) {
    let Some((mut commits, stopping)) =
        brain.upgrade().map(|brain| (brain.core.store.watch(), brain.core.stopping.clone()))
    else {
        return;
    };
    if let Some(brain) = brain.upgrade() {
        predefined::ensure(&brain.core).await;
    }
    let mut driver = Driver::new();
    let mut news = News::everything();
    loop {
        let Some(now) = brain.upgrade() else { return };
        let outcome = driver.run(&now, &news.dirty).await;
        drop(now);
        let wake = match outcome {
            Ok(wake) => {
                news = News::default();
                wake
            }
            Err(error) => {
                tracing::warn!(%error, "services cannot be driven now");
                // What was dirty still is, so that nothing else would hold the next attempt up.
                if stopping.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    return;
                }
                None
            }
        };
        let waited = tokio::select! {
            () = stopping.cancelled() => return,
            waited = wait(&mut commits, &mut news, wake) => waited,
        };
        if waited.is_err() {
            return;
        }
    }
}

/// The store is gone.
struct Closed;

/// Until something is to be looked at: by a commit, all that are there already included, or by the clock.
async fn wait(
    commits: &mut Receiver<Arc<Commit>>,
    news: &mut News,
    wake: Option<SystemTime>,
) -> Result<(), Closed> {
    while !news.is_due() {
        let pause = wake.map_or(LONGEST, |wake| wake.duration_since(SystemTime::now()).unwrap_or_default());
        match tokio::time::timeout(pause.min(LONGEST), commits.recv()).await {
            Ok(Ok(commit)) => news.note(&commit),
            Ok(Err(RecvError::Lagged(_))) => *news = News::everything(),
            Ok(Err(RecvError::Closed)) => return Err(Closed),
            Err(_) if wake.is_some_and(|wake| wake <= SystemTime::now()) => return Ok(()),
            Err(_) => {}
        }
    }
    loop {
        match commits.try_recv() {
            Ok(commit) => news.note(&commit),
            Err(TryRecvError::Lagged(_)) => *news = News::everything(),
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Closed) => return Err(Closed),
        }
    }
}
