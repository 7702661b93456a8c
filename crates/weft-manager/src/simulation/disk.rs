//! The disk of a host: as fast as it is told to be, and it forgets at a power loss.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redb::Database;
use tokio::time::Instant;

use crate::consensus::{Disk, Platter, StorageError};

#[derive(Clone)]
pub(super) struct SimulatedDisk(Arc<Mutex<State>>);

struct State {
    files: BTreeMap<PathBuf, Platter>,
    rng: StdRng,
    /// Longest time of a group of writes.
    slowest: Duration,
    /// Nothing is written before.
    stalled_until: Option<Instant>,
    /// See [`super::plan::Mistake`].
    lies: bool,
}

/// What of a host's disk outlives the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// What was not synced is kept in part.
    PowerLoss,
    /// The process died: everything written is there.
    Kill,
}

const FAST: Duration = Duration::from_millis(4);

impl SimulatedDisk {
    pub(super) fn new(rng: StdRng) -> Self {
        Self::holding(BTreeMap::new(), rng)
    }

    fn holding(files: BTreeMap<PathBuf, Platter>, rng: StdRng) -> Self {
        Self(Arc::new(Mutex::new(State { files, rng, slowest: FAST, stalled_until: None, lies: false })))
    }

    /// The disk as the host's next life finds it. What this life still writes is lost.
    pub(super) fn after(&self, death: Death) -> Self {
        let mut state = self.lock();
        let lies = state.lies;
        // One of its own: how many writes there are must not decide what comes later.
        let rng = &mut StdRng::seed_from_u64(state.rng.random());
        let files = &state.files;
        let kept = (files.iter())
            .map(|(path, file)| {
                // All, nothing, or any of it: writes reach a disk in any order.
                let chance = match death {
                    Death::Kill => 1.0,
                    Death::PowerLoss if lies => 0.0,
                    Death::PowerLoss => [0.0, 0.5, 0.9, 1.0][rng.random_range(0..4)],
                };
                let survivor = file.after_crash(|_| rng.random_bool(chance));
                file.cut_power_after(0);
                (path.clone(), survivor)
            })
            .collect();
        let left = Self::holding(kept, rng.clone());
        drop(state);
        if lies {
            left.lie();
        }
        left
    }

    /// From now on nothing that is written survives a power loss.
    pub(super) fn lie(&self) {
        let mut state = self.lock();
        state.lies = true;
        state.files.values().for_each(Platter::lie);
    }

    /// Groups of writes take up to this long from now on.
    pub(super) fn slow_down(&self, slowest: Duration) {
        self.lock().slowest = slowest;
    }

    /// Nothing is written for a while.
    pub(super) fn stall(&self, time: Duration) {
        self.lock().stalled_until = Some(Instant::now() + time);
    }

    /// As it was at first.
    pub(super) fn recover(&self) {
        let mut state = self.lock();
        state.slowest = FAST;
        state.stalled_until = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path) -> Result<Database, StorageError> {
        let file = self.lock().files.entry(path.to_owned()).or_default().clone();
        redb::Builder::new()
            .set_cache_size(1 << 20)
            .create_with_backend(file)
            .map_err(|source| StorageError::Open { path: path.to_path_buf(), source: source.into() })
    }

    fn spawn_writer(&self, _: &str, writer: BoxFuture<'static, ()>) -> io::Result<()> {
        tokio::spawn(writer);
        Ok(())
    }

    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, io::Result<()>> {
        let task = tokio::spawn(async move { work() });
        async move { task.await.map_err(io::Error::other) }.boxed()
    }

    fn before_write(&self) -> BoxFuture<'static, ()> {
        let disk = self.clone();
        async move {
            let stalled = disk.lock().stalled_until;
            if let Some(end) = stalled {
                tokio::time::sleep_until(end).await;
            }
            let pause = {
                let mut state = disk.lock();
                let slowest = state.slowest.as_micros().max(2) as u64;
                Duration::from_micros(state.rng.random_range(1..slowest))
            };
            tokio::time::sleep(pause).await;
        }
        .boxed()
    }
}
