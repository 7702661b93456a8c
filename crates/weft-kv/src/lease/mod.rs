//! A key that is there as long as this process lives.
//!
//! The key is under a lease that is renewed every heartbeat. When the store has forgotten the lease, lost its data, or
//! somebody removed the key, both are made again. While the store does not answer it is asked again with growing waits;
//! whoever started this goes on without it.

mod schedule;

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::schedule::{News, Outcome, Schedule};
use crate::{Lease, Store, StoreError};

/// The end of the process does not wait longer for the store than this: the lease ends by itself, later.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// How the key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time between two renewals; less than `ttl`.
    pub heartbeat: Duration,
    /// How long after the last renewal the key vanishes.
    pub ttl: Duration,
}

/// The key, kept in the background.
pub struct LeasedKey {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl LeasedKey {
    /// Writes the key as soon as the store takes it, and keeps it until [`Self::release`].
    pub fn keep(store: Store, key: String, value: Vec<u8>, timing: Timing) -> Self {
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper { store, key, value, ttl: timing.ttl, lease: None };
        let task = tokio::spawn(keeper.run(Schedule::new(timing.heartbeat), stopped));
        Self { stop, task }
    }

    /// Removes the key at once if the store answers.
    pub async fn release(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the key in the key-value store was no longer kept");
        }
    }
}

struct Keeper {
    store: Store,
    key: String,
    value: Vec<u8>,
    ttl: Duration,
    lease: Option<Lease>,
}

impl Keeper {
    async fn run(mut self, mut schedule: Schedule, mut stopped: oneshot::Receiver<()>) {
        loop {
            let beat = async {
                let wait = self.beat(&mut schedule).await;
                tokio::time::sleep(wait).await;
            };
            tokio::select! {
                _ = &mut stopped => break,
                () = beat => {}
            }
        }
        self.release().await;
    }

    /// Does what is due; answers how long to wait before the next time.
    async fn beat(&mut self, schedule: &mut Schedule) -> Duration {
        let result = self.renew_or_write().await;
        let outcome = match &result {
            Ok(()) => Outcome::Kept,
            Err(StoreError::LeaseGone) => Outcome::Forgotten,
            Err(_) => Outcome::Failed,
        };
        if outcome == Outcome::Forgotten {
            self.lease = None;
        }
        let (wait, news) = schedule.after(outcome, rand::random());
        match (news, result) {
            (Some(News::Kept), _) => tracing::info!(key = self.key, "registered in the key-value store"),
            (Some(News::Failing), Err(error)) => {
                tracing::warn!(key = self.key, %error, "not registered in the key-value store: it is tried again");
            }
            _ => {}
        }
        wait
    }

    async fn renew_or_write(&mut self) -> Result<(), StoreError> {
        let lease = match &self.lease {
            Some(lease) => {
                self.store.renew(lease).await?;
                let found = self.store.get(&self.key).await?;
                if found.is_some_and(|entry| entry.value == self.value) {
                    return Ok(());
                }
                lease
            }
            // Kept before it is used: whatever ends this in between, the lease can be given back.
            None => self.lease.insert(self.store.grant(self.ttl).await?),
        };
        self.store.put_leased(&self.key, &self.value, lease).await
    }

    async fn release(self) {
        let Some(lease) = self.lease else { return };
        let problem = match tokio::time::timeout(RELEASE_DEADLINE, self.store.revoke(&lease)).await {
            Ok(Ok(()) | Err(StoreError::LeaseGone)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {RELEASE_DEADLINE:?}"),
        };
        tracing::warn!(
            key = self.key,
            error = problem,
            "the key stays in the key-value store until its lease ends"
        );
    }
}
