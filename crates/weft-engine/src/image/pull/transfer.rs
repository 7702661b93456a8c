//! Layers on their way. Pulls that want the same layer share one download and one unpacking of it.
//!
//! A transfer runs in a task of its own, which tells its phase and ends when no pull waits for it any more.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, watch};

use super::error::PullError;
use crate::image::Inner;
use crate::image::digest::{Digest, Hasher};
use crate::image::oci::Descriptor;
use crate::image::registry::Registry;
use crate::image::store::WorkDir;

/// Docker's default of `--max-concurrent-downloads`.
const DOWNLOADS_MAX: usize = 3;
/// Docker's default of `--max-download-attempts`.
const ATTEMPTS_MAX: u32 = 5;
/// Wait before the second attempt; each further one waits this much longer.
const RETRY_STEP: Duration = Duration::from_secs(5);
/// How often amounts are told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Where a layer is.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    Waiting,
    Downloading { current: u64, total: u64 },
    Retrying { seconds: u64 },
    Verifying,
    Downloaded,
    Extracting { current: u64, total: u64 },
    Done,
    Failed(Arc<PullError>),
}

/// A layer to bring: compressed content and what it must be when unpacked.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) blob: Descriptor,
    pub(super) diff_id: Digest,
}

/// A transfer that this pull takes part in; ends when the last part-taker drops it.
pub(super) struct Transfer {
    phase: watch::Receiver<Phase>,
    task: tokio::task::AbortHandle,
}

impl Transfer {
    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All transfers of this host.
pub(crate) struct Transfers {
    running: Mutex<HashMap<(Digest, Digest), Weak<Transfer>>>,
    slots: Arc<Semaphore>,
}

impl Default for Transfers {
    fn default() -> Self {
        Self { running: Mutex::default(), slots: Arc::new(Semaphore::new(DOWNLOADS_MAX)) }
    }
}

impl Transfers {
    /// Joins the transfer of this layer, or begins it from a repository.
    pub(super) fn join(
        &self,
        inner: &Arc<Inner>,
        (registry, repository): (&Arc<Registry>, &str),
        wanted: &Wanted,
    ) -> Arc<Transfer> {
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        running.retain(|_, transfer| transfer.strong_count() > 0);
        let key = (wanted.blob.digest.clone(), wanted.diff_id.clone());
        if let Some(transfer) = running.get(&key).and_then(Weak::upgrade)
            && !matches!(*transfer.phase.borrow(), Phase::Failed(_))
        {
            return transfer;
        }
        let (tell, phase) = watch::channel(Phase::Waiting);
        let job = Job {
            inner: inner.clone(),
            registry: registry.clone(),
            repository: repository.to_owned(),
            wanted: wanted.clone(),
            tell: Teller::new(tell),
        };
        let slots = self.slots.clone();
        let task = tokio::spawn(job.run(slots)).abort_handle();
        let transfer = Arc::new(Transfer { phase, task });
        running.insert(key, Arc::downgrade(&transfer));
        transfer
    }
}

/// Tells phases; amounts not more often than anyone can read.
#[derive(Clone)]
struct Teller {
    phase: Arc<watch::Sender<Phase>>,
    last: Option<Instant>,
}

impl Teller {
    fn new(phase: watch::Sender<Phase>) -> Self {
        Self { phase: Arc::new(phase), last: None }
    }

    fn tell(&mut self, phase: Phase) {
        self.last = None;
        self.phase.send_replace(phase);
    }

    fn amount(&mut self, phase: Phase) {
        if self.last.is_none_or(|last| last.elapsed() >= TELL_EVERY) {
            self.phase.send_replace(phase);
            self.last = Some(Instant::now());
        }
    }
}

struct Job {
    inner: Arc<Inner>,
    registry: Arc<Registry>,
    /// In the familiar form.
    repository: String,
    wanted: Wanted,
    tell: Teller,
}

impl Job {
    async fn run(mut self, slots: Arc<Semaphore>) {
        let outcome = self.bring(&slots).await;
        self.tell.tell(match outcome {
            Ok(()) => Phase::Done,
            Err(error) => Phase::Failed(Arc::new(error)),
        });
    }

    async fn bring(&mut self, slots: &Semaphore) -> Result<(), PullError> {
        if self.inner.store.has_layer(&self.wanted.diff_id) {
            return Ok(());
        }
        let work = self.inner.store.work_dir().map_err(PullError::Store)?;
        {
            let _slot = slots.acquire().await.map_err(|_| PullError::Canceled)?;
            self.download(&work).await?;
        }
        self.tell.tell(Phase::Downloaded);
        self.unpack(work).await
    }

    /// Downloads the blob to the work directory, going on after interruptions.
    async fn download(&mut self, work: &WorkDir) -> Result<(), PullError> {
        let write = |source| PullError::Write { layer: self.wanted.blob.digest.clone(), source };
        let mut file = tokio::fs::File::create(work.path().join("blob")).await.map_err(write)?;
        let mut received = Received { hasher: Hasher::default(), length: 0 };
        let mut attempt = 1;
        loop {
            match self.receive(&mut file, &mut received).await {
                Ok(()) => break,
                Err(PullError::Registry(error)) if error.is_passing() && attempt < ATTEMPTS_MAX => {
                    tracing::warn!(layer = %self.wanted.blob.digest, %error, attempt, "download interrupted");
                    self.back_off(RETRY_STEP * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
        self.tell.tell(Phase::Verifying);
        let whole = self.wanted.blob.size == 0 || received.length == self.wanted.blob.size;
        if !whole || received.hasher.finish() != self.wanted.blob.digest {
            return Err(PullError::LayerDigest(self.wanted.blob.digest.clone()));
        }
        Ok(())
    }

    async fn receive(
        &mut self,
        file: &mut tokio::fs::File,
        received: &mut Received,
    ) -> Result<(), PullError> {
        let Descriptor { digest, size, .. } = self.wanted.blob.clone();
        let write = |source| PullError::Write { layer: digest.clone(), source };
        let (start, mut chunks) = self.registry.blob(&digest, received.length).await?;
        if start != received.length {
            file.set_len(0).await.map_err(write)?;
            tokio::io::AsyncSeekExt::rewind(file).await.map_err(write)?;
            *received = Received { hasher: Hasher::default(), length: 0 };
        }
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            received.length += chunk.len() as u64;
            // More than announced never has the digest: no disk for it.
            if size > 0 && received.length > size {
                return Err(PullError::LayerDigest(digest));
            }
            received.hasher.update(&chunk);
            file.write_all(&chunk).await.map_err(write)?;
            self.tell.amount(Phase::Downloading { current: received.length, total: size });
        }
        file.flush().await.map_err(write)
    }

    async fn back_off(&mut self, pause: Duration) {
        for seconds in (1..=pause.as_secs()).rev() {
            self.tell.tell(Phase::Retrying { seconds });
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn unpack(&mut self, work: WorkDir) -> Result<(), PullError> {
        let (inner, wanted, mut tell) = (self.inner.clone(), self.wanted.clone(), self.tell.clone());
        let repository = self.repository.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            let file = File::open(work.path().join("blob"));
            let file =
                file.map_err(|source| PullError::Write { layer: wanted.blob.digest.clone(), source })?;
            let total = file.metadata().map_or(0, |metadata| metadata.len());
            let counted = Counting {
                inner: file,
                count: 0,
                told: |current| tell.amount(Phase::Extracting { current, total }),
            };
            inner.store.put_layer_durably(counted, &wanted.diff_id).map_err(PullError::Store)?;
            inner.store.remember_served(&wanted.diff_id, &wanted.blob, &repository);
            tell.tell(Phase::Extracting { current: total, total });
            Ok(())
        });
        unpacked.await.unwrap_or(Err(PullError::Canceled))
    }
}

/// What has come of a blob.
struct Received {
    hasher: Hasher,
    length: u64,
}

/// Tells how much was read.
struct Counting<R, F> {
    inner: R,
    count: u64,
    told: F,
}

impl<R: Read, F: FnMut(u64)> Read for Counting<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        (self.told)(self.count);
        Ok(count)
    }
}
