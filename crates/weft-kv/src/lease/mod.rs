//! Keys that are there as long as this process lives.
//!
//! They are under one lease that is renewed every heartbeat. When the store has forgotten the lease, lost its data, or
//! somebody removed a key, they are made again. While the store does not answer it is asked again with growing waits;
//! whoever started this goes on without it.

mod schedule;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use self::schedule::{News, Outcome, Schedule};
use crate::{Lease, Store, StoreError};

/// The end of the process does not wait longer for the store than this: the lease ends by itself, later.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);
/// Before a renewal that failed is tried again, unless the next one is due before.
const RETRY: Duration = Duration::from_secs(1);
/// Keys that are looked at each heartbeat, in turn: more would be a burden to the store of many hosts.
const LOOKS: usize = 16;

/// How the keys are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time between two renewals; less than `ttl`.
    pub heartbeat: Duration,
    /// How long after the last renewal the keys vanish.
    pub ttl: Duration,
}

/// Values by their keys.
pub type Leased = BTreeMap<String, Vec<u8>>;

/// The keys, kept in the background.
pub struct LeasedKeys {
    wanted: watch::Sender<Leased>,
    doubt: Arc<Notify>,
    stop: watch::Sender<bool>,
    lease: watch::Receiver<Option<Lease>>,
    /// None once it was waited for.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl LeasedKeys {
    /// Writes the keys as soon as the store takes them, and keeps them until [`Self::release`].
    pub fn keep(store: Store, keys: Leased, timing: Timing) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (wanted, news) = watch::channel(keys);
        let doubt = Arc::new(Notify::new());
        let (ttl, doubted) = (timing.ttl, Arc::clone(&doubt));
        let (lease, held) = watch::channel(None);
        let keeper = Keeper {
            store,
            wanted: news,
            doubted,
            ttl,
            lease,
            written: BTreeMap::new(),
            next: 0,
            looks: LOOKS,
        };
        let task = tokio::spawn(keeper.run(Schedule::new(timing.heartbeat), stopped));
        Self { wanted, doubt, stop, lease: held, task: Mutex::new(Some(task)) }
    }

    /// What they are under, while there is something: [`keep_alive`] keeps it where this process cannot.
    pub fn lease(&self) -> watch::Receiver<Option<Lease>> {
        self.lease.clone()
    }

    /// These are the keys from now on: others of ours are removed.
    pub fn set(&self, keys: Leased) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != keys;
            *wanted = keys;
            changed
        });
    }

    /// Somebody saw that a key is not as it should be: they are all looked after at once.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Removes the keys at once if the store answers.
    pub async fn release(&self) {
        self.stop.send_replace(true);
        self.ended(|_| ()).await;
    }

    /// Ends the renewals: the keys stay until their lease ends.
    pub async fn leave(&self) {
        self.ended(JoinHandle::abort).await;
    }

    async fn ended(&self, end: impl FnOnce(&JoinHandle<()>)) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(task) = task else { return };
        end(&task);
        if let Err(error) = task.await
            && !error.is_cancelled()
        {
            tracing::error!(%error, "the keys in the key-value store were no longer kept");
        }
    }
}

/// Renews a lease until it has ended.
pub async fn keep_alive(store: Store, lease: Lease, heartbeat: Duration) {
    loop {
        let wait = match store.renew(&lease).await {
            Ok(()) => heartbeat,
            Err(StoreError::LeaseGone) => return,
            Err(error) => {
                tracing::debug!(%error, "a lease in the key-value store is not renewed: it is tried again");
                heartbeat.min(RETRY)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

struct Keeper {
    store: Store,
    wanted: watch::Receiver<Leased>,
    doubted: Arc<Notify>,
    ttl: Duration,
    lease: watch::Sender<Option<Lease>>,
    /// What was written under the lease; none where nobody knows what is there.
    written: BTreeMap<String, Option<Vec<u8>>>,
    /// Whose turn it is to be looked at.
    next: usize,
    /// How many are looked at the next time.
    looks: usize,
}

impl Keeper {
    async fn run(mut self, mut schedule: Schedule, mut stopped: watch::Receiver<bool>) {
        let doubted = Arc::clone(&self.doubted);
        loop {
            let wait = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                wait = self.beat(&mut schedule) => wait,
            };
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = tokio::time::sleep(wait) => {}
                // Its sender is gone only when this is about to stop.
                Ok(()) = self.wanted.changed() => {}
                () = doubted.notified() => self.looks = usize::MAX,
            }
        }
        self.release().await;
    }

    /// Does what is due; answers how long to wait before the next time.
    async fn beat(&mut self, schedule: &mut Schedule) -> Duration {
        let result = self.renew_and_write().await;
        let outcome = match &result {
            Ok(()) => Outcome::Kept,
            Err(StoreError::LeaseGone) => Outcome::Forgotten,
            Err(_) => Outcome::Failed,
        };
        if outcome == Outcome::Forgotten {
            self.lease.send_replace(None);
            self.written.clear();
        }
        let (wait, news) = schedule.after(outcome, rand::random());
        match (news, result) {
            (Some(News::Kept), _) => {
                tracing::info!(keys = self.written.len(), "registered in the key-value store")
            }
            (Some(News::Failing), Err(error)) => {
                tracing::warn!(%error, "not registered in the key-value store: it is tried again");
            }
            _ => {}
        }
        wait
    }

    async fn renew_and_write(&mut self) -> Result<(), StoreError> {
        let wanted = self.wanted.borrow_and_update().clone();
        let held = self.lease.borrow().clone();
        let lease = match held {
            Some(lease) => {
                self.store.renew(&lease).await?;
                lease
            }
            None => {
                let lease = self.store.grant(self.ttl).await?;
                // Kept before it is used: whatever ends this in between, the lease can be given back.
                self.lease.send_replace(Some(lease.clone()));
                lease
            }
        };
        self.look(&wanted).await?;
        let gone: Vec<String> =
            self.written.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            self.remove(&key).await?;
            self.written.remove(&key);
        }
        for (key, value) in wanted {
            if self.written.get(&key) != Some(&Some(value.clone())) {
                // Before it is tried: a write that failed may have been made.
                self.written.insert(key.clone(), None);
                self.store.put_leased(&key, &value, &lease).await?;
                self.written.insert(key, Some(value));
            }
        }
        Ok(())
    }

    /// Whether some of the keys are still there.
    async fn look(&mut self, wanted: &Leased) -> Result<(), StoreError> {
        let count = self.written.len();
        let looks = count.min(std::mem::replace(&mut self.looks, LOOKS));
        let keys: Vec<String> = self.written.keys().cycle().skip(self.next).take(looks).cloned().collect();
        self.next = (self.next + looks).checked_rem(count).unwrap_or(0);
        for key in keys {
            let found = self.store.get(&key).await?.map(|entry| entry.value);
            if found.as_ref() != wanted.get(&key) {
                self.written.insert(key, None);
            }
        }
        Ok(())
    }

    /// Nobody else writes it; if somebody did, it is not ours any more.
    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let Some(entry) = self.store.get(key).await? else { return Ok(()) };
        match self.store.remove(key, entry.version).await {
            Err(StoreError::Conflict { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    async fn release(self) {
        let Some(lease) = self.lease.send_replace(None) else { return };
        let problem = match tokio::time::timeout(RELEASE_DEADLINE, self.store.revoke(&lease)).await {
            Ok(Ok(()) | Err(StoreError::LeaseGone)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {RELEASE_DEADLINE:?}"),
        };
        tracing::warn!(error = problem, "keys stay in the key-value store until their lease ends");
    }
}
