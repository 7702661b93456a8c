//! One layer on its way to a registry: found there, taken over from another repository, or compressed and sent.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzEncoder;

use super::Push;
use super::error::PushError;
use super::manifest::DOCKER_LAYER;
use crate::image::digest::{Digest, HashingReader};
use crate::image::oci::Descriptor;
use crate::image::progress::Progress;
use crate::image::registry::{Mounted, RegistryError, RepositoryPath, UploadFile, UploadPlace};
use crate::image::served::ServedLayer;
use crate::image::store::WorkDir;

/// As dockerd has it.
const ATTEMPTS_MAX: u32 = 5;
/// Wait before the second attempt; each further one waits this much longer.
const RETRY_STEP: Duration = Duration::from_secs(5);
/// How often amounts are told.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Repositories from which a layer is tried to be taken over, as with dockerd.
const MOUNTS_MAX: usize = 4;

/// A layer compressed, for as long as this lives.
struct Compressed {
    blob: Descriptor,
    file: UploadFile,
    _work: WorkDir,
}

impl Push<'_> {
    /// Sees to it that the repository has a layer; what it is called there.
    pub(super) async fn layer(&self, layer: &Digest) -> Result<Descriptor, PushError> {
        let _slot = match self.inner.upload_slots.0.clone().try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                self.say(Progress::layer(layer.short(), "Waiting"));
                let slots = self.inner.upload_slots.0.clone();
                slots.acquire_owned().await.map_err(|_| PushError::Canceled)?
            }
        };
        let known = self.inner.store.served(layer);
        let blob = match self.find(layer, &known).await? {
            Some(blob) => blob,
            None => {
                let (mounted, place) = self.mount(layer, &known).await;
                match mounted {
                    Some(blob) => blob,
                    None => self.send(layer, &known, place).await?,
                }
            }
        };
        self.inner.store.remember_served(layer, &blob, &self.repository);
        Ok(blob)
    }

    async fn find(&self, layer: &Digest, known: &[ServedLayer]) -> Result<Option<Descriptor>, PushError> {
        for form in known {
            if self.registry.has_blob(&form.digest).await? {
                self.say(Progress::layer(layer.short(), "Layer already exists"));
                return Ok(Some(descriptor(form)));
            }
        }
        Ok(None)
    }

    /// Tries other repositories of the same registry. What goes wrong there only means that the layer is sent; the
    /// registry may have made a place for that already.
    async fn mount(
        &self,
        layer: &Digest,
        known: &[ServedLayer],
    ) -> (Option<Descriptor>, Option<UploadPlace>) {
        let mut candidates: Vec<(&ServedLayer, String)> = Vec::new();
        for form in known {
            let places = form.repositories.iter().map(|name| RepositoryPath::of(name));
            let others = places
                .filter(|place| place.authority == self.place.authority && place.path != self.place.path);
            candidates.extend(others.map(|place| (form, place.path)));
        }
        let mut place = None;
        for (form, from) in candidates.into_iter().take(MOUNTS_MAX) {
            match self.registry.mount_blob(&form.digest, &from).await {
                Ok(Mounted::Yes) => {
                    self.say(Progress::layer(layer.short(), format!("Mounted from {from}")));
                    return (Some(descriptor(form)), None);
                }
                Ok(Mounted::No(made)) => place = Some(made),
                Err(error) => tracing::debug!(%layer, from, %error, "a layer is not taken over"),
            }
        }
        (None, place)
    }

    async fn send(
        &self,
        layer: &Digest,
        known: &[ServedLayer],
        mut place: Option<UploadPlace>,
    ) -> Result<Descriptor, PushError> {
        let compressed = self.compress(layer).await?;
        let blob = &compressed.blob;
        let asked = known.iter().any(|form| form.digest == blob.digest);
        if !asked && self.registry.has_blob(&blob.digest).await? {
            self.say(Progress::layer(layer.short(), "Layer already exists"));
            return Ok(blob.clone());
        }
        let mut attempt = 1;
        loop {
            match self.upload(layer, &compressed, place.take()).await {
                Ok(()) => break,
                Err(error) if error.is_passing() && attempt < ATTEMPTS_MAX => {
                    tracing::warn!(%layer, %error, attempt, "upload interrupted");
                    self.back_off(layer, RETRY_STEP * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.say(Progress::layer(layer.short(), "Pushed"));
        Ok(blob.clone())
    }

    async fn upload(
        &self,
        layer: &Digest,
        compressed: &Compressed,
        place: Option<UploadPlace>,
    ) -> Result<(), RegistryError> {
        let place = match place {
            Some(place) => place,
            None => self.registry.begin_upload().await?,
        };
        let file = &compressed.file;
        let mut sending = std::pin::pin!(self.registry.put_blob(place, &compressed.blob.digest, file));
        loop {
            let current = file.sent.load(Ordering::Relaxed);
            self.say(Progress::amount(layer.short(), "Pushing", current, file.length));
            if let Ok(outcome) = tokio::time::timeout(TELL_EVERY, sending.as_mut()).await {
                return outcome;
            }
        }
    }

    /// The same content is the same blob each time, so a registry that has it is not sent it again.
    async fn compress(&self, layer: &Digest) -> Result<Compressed, PushError> {
        let (inner, id) = (self.inner.clone(), layer.clone());
        let whole = move || {
            let failed = |source| PushError::Layer { layer: id.clone(), source };
            let work = inner.store.work_dir().map_err(failed)?;
            let archive = inner.store.layer_archive(&id).map_err(failed)?;
            let path = work.path().join("blob");
            let packed = File::create(&path).and_then(|file| {
                HashingReader::new(GzEncoder::new(archive, Compression::default()), file).finish()
            });
            let (digest, length, _) =
                packed.map_err(|source: io::Error| PushError::Compress { layer: id.clone(), source })?;
            let blob = Descriptor {
                media_type: DOCKER_LAYER.to_owned(),
                digest,
                size: length,
                annotations: None,
                platform: None,
            };
            Ok(Compressed { blob, file: UploadFile { path, length, sent: Arc::default() }, _work: work })
        };
        tokio::task::spawn_blocking(whole).await.unwrap_or(Err(PushError::Canceled))
    }

    async fn back_off(&self, layer: &Digest, pause: Duration) {
        for seconds in (1..=pause.as_secs()).rev() {
            let unit = if seconds == 1 { "second" } else { "seconds" };
            self.say(Progress::layer(layer.short(), format!("Retrying in {seconds} {unit}")));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

fn descriptor(form: &ServedLayer) -> Descriptor {
    Descriptor {
        media_type: form.media_type.clone(),
        digest: form.digest.clone(),
        size: form.size,
        annotations: None,
        platform: None,
    }
}
