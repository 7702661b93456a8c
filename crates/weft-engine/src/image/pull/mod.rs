//! `docker pull`: manifest, configuration, layers; the name last.
//!
//! Nothing that a registry sends is trusted: what has a digest is checked against it before it is used. Until the
//! names are written, a crash or failure leaves layers that nothing uses, which the next start removes.

mod error;
mod transfer;

use std::sync::Arc;

use serde::de::DeserializeOwned;

pub(crate) use self::error::PullError;
pub(crate) use self::transfer::Transfers;
use self::transfer::{Phase, Transfer, Wanted};
use super::oci::{Descriptor, Index, Manifest as ImageManifest, Platform};
use super::progress::{Progress, ProgressSink};
use super::reference::Reference;
use super::registry::{Access, Manifest, Registry, RegistryAuth, RegistryError, RepositoryPath};
use super::store::{Image, parse_document};
use super::{Busy, Digest, Images, Inner, Name, Result, Term, invalid};
use crate::error::EngineError;
use crate::events::EventType;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Credentials; empty for none.
    pub auth: RegistryAuth,
    /// `os/architecture[/variant]` instead of this host's.
    pub platform: Option<String>,
}

impl Images {
    /// Brings an image (`name`, `name:tag`, `name@sha256:…`, `name:tag@sha256:…`) here; its id.
    ///
    /// Lines of progress begin once the registry has answered for the image: a failure before the first line is one
    /// of the request, a later one of the stream. A name whose image is here and complete still is asked for.
    pub async fn pull(
        &self,
        reference: &str,
        options: &PullOptions,
        progress: &ProgressSink,
    ) -> Result<String> {
        let name = match Term::parse(reference).map_err(invalid)? {
            Term::Name(name) => name,
            Term::Id(_) => return Err(EngineError::Invalid("invalid reference format".to_owned())),
        };
        let pull = Pull::open(&self.inner, name.repository(), options, progress).await?;
        let id = pull.one(&name).await.map_err(EngineError::pull)?;
        Ok(id.to_string())
    }

    /// Brings all tags of a repository, as a pull without tag does over the API.
    pub async fn pull_all(
        &self,
        repository: &str,
        options: &PullOptions,
        progress: &ProgressSink,
    ) -> Result<()> {
        let repository = Reference::new(repository, "").map_err(invalid)?.repository().to_owned();
        let pull = Pull::open(&self.inner, &repository, options, progress).await?;
        let tags = pull.registry.tags().await;
        for tag in tags.map_err(|error| EngineError::pull(pull.refused(error, &repository)))? {
            let name = Name::Tag(Reference::new(&repository, &tag).map_err(invalid)?);
            pull.one(&name).await.map_err(EngineError::pull)?;
        }
        Ok(())
    }
}

impl Images {
    /// What a registry has under a name: digest and platforms. Nothing is brought here.
    pub async fn distribution(&self, reference: &str, auth: &RegistryAuth) -> Result<DistributionInspect> {
        let Term::Name(name) = Term::parse(reference).map_err(invalid)? else {
            return Err(EngineError::Invalid("unknown image reference format: ".to_owned() + reference));
        };
        let place = RepositoryPath::of(name.repository());
        let failed = |error: RegistryError| EngineError::pull(error.into());
        let registry =
            Registry::open(&self.inner.registries, &place, auth, Access::Pull).await.map_err(failed)?;
        let served = registry.manifest(&wanted(&name)).await.map_err(failed)?;
        let platforms = match is_index(&served) {
            true => {
                let index: Index = parse("manifest list", &served.bytes).map_err(EngineError::pull)?;
                index.manifests.into_iter().filter_map(|manifest| manifest.platform).collect()
            }
            false => {
                let manifest: ImageManifest = parse("manifest", &served.bytes).map_err(EngineError::pull)?;
                let config = registry.document(&manifest.config.digest).await.map_err(failed)?;
                parse_document(&config).map(|document| vec![Platform::of(&document)])?
            }
        };
        Ok(DistributionInspect {
            media_type: served.media_type,
            digest: served.digest.to_string(),
            size: served.bytes.len() as u64,
            platforms: platforms.into_iter().map(ServedPlatform::from).collect(),
        })
    }
}

/// What a registry serves under a name.
#[derive(Debug, Clone)]
pub struct DistributionInspect {
    /// Kind of the manifest or list.
    pub media_type: String,
    /// Its digest, `sha256:…`.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
    /// What it runs on.
    pub platforms: Vec<ServedPlatform>,
}

/// What an image runs on.
#[derive(Debug, Clone)]
pub struct ServedPlatform {
    /// `amd64`, …
    pub architecture: String,
    /// `linux`, …
    pub os: String,
    /// `v7`, … or empty.
    pub variant: String,
}

impl From<Platform> for ServedPlatform {
    fn from(platform: Platform) -> Self {
        Self {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant.unwrap_or_default(),
        }
    }
}

struct Pull<'a> {
    inner: &'a Arc<Inner>,
    registry: Arc<Registry>,
    /// In the familiar form.
    repository: String,
    path: String,
    platform: Platform,
    /// Whether the user asked for the platform.
    platform_given: bool,
    progress: &'a ProgressSink,
}

impl<'a> Pull<'a> {
    async fn open(
        inner: &'a Arc<Inner>,
        repository: &str,
        options: &PullOptions,
        progress: &'a ProgressSink,
    ) -> Result<Self> {
        let platform = match options.platform.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => Platform::parse(text)
                .ok_or_else(|| EngineError::pull(PullError::BadPlatform(text.to_owned())))?,
            None => Platform::host(),
        };
        let place = RepositoryPath::of(repository);
        let registry = Registry::open(&inner.registries, &place, &options.auth, Access::Pull).await;
        let registry = registry.map_err(|error| EngineError::pull(error.into()))?;
        Ok(Self {
            inner,
            registry: Arc::new(registry),
            repository: repository.to_owned(),
            path: place.path,
            platform,
            platform_given: options.platform.is_some(),
            progress,
        })
    }

    /// Pulls one tag or digest.
    async fn one(&self, name: &Name) -> std::result::Result<Digest, PullError> {
        let wanted = wanted(name);
        let manifest = self.registry.manifest(&wanted).await;
        let served = manifest.map_err(|error| self.refused(error, &name.to_string()))?;
        self.say(Progress::about(&wanted, format!("Pulling from {}", self.path)));
        // From here on no layer is removed by others.
        let _busy = Busy::new(self.inner);
        let digest = served.digest.clone();
        let image = self.image(served, name).await?;
        let (id, offered) = (image.id.clone(), Platform::of(&image.document));
        let canonical = Name::Digest(super::reference::Canonical {
            repository: self.repository.clone(),
            digest: digest.clone(),
        });
        let known = self.inner.lock().names.get(name) == Some(&id);
        let names = vec![name.clone(), canonical];
        let inner = self.inner.clone();
        let added = super::blocking(move || inner.add(image, names)).await;
        added.map_err(PullError::Store)?;
        self.say(Progress::message(format!("Digest: {digest}")));
        let status = if known { "Image is up to date" } else { "Downloaded newer image" };
        self.say(Progress::message(format!("Status: {status} for {name}")));
        if self.platform_given && !self.platform.accepts(&offered) {
            self.say(Progress::message(format!(
                "WARNING: image with reference {name} was found but its platform ({offered}) does not match the specified platform ({})",
                self.platform
            )));
        }
        self.pulled(name, &id);
        Ok(id)
    }

    /// Everything of the image but its names.
    async fn image(&self, served: Manifest, name: &Name) -> std::result::Result<Image, PullError> {
        let manifest: ImageManifest = self.image_manifest(served, name).await?;
        if let Some(document) = self.inner.complete(&manifest.config.digest) {
            self.remember(manifest.layers.iter().zip(&document.rootfs.diff_ids));
            return Ok(Image { id: manifest.config.digest, document });
        }
        let config = self.config(&manifest.config.digest).await?;
        let document = parse_document(&config).map_err(PullError::Store)?;
        if document.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(PullError::LayerCount);
        }
        let layers = manifest.layers.into_iter().zip(document.rootfs.diff_ids);
        let layers: Vec<Wanted> = layers.map(|(blob, diff_id)| Wanted { blob, diff_id }).collect();
        self.layers(layers.clone()).await?;
        self.remember(layers.iter().map(|layer| (&layer.blob, &layer.diff_id)));
        let inner = self.inner.clone();
        let stored = super::blocking(move || inner.store.put_config(&config)).await;
        stored.map_err(PullError::Store)
    }

    /// For pushes: where the layers can be had.
    fn remember<'l>(&self, layers: impl Iterator<Item = (&'l Descriptor, &'l Digest)>) {
        for (blob, diff_id) in layers {
            self.inner.store.remember_repository(diff_id, blob, &self.repository);
        }
    }

    async fn image_manifest(
        &self,
        mut served: Manifest,
        name: &Name,
    ) -> std::result::Result<ImageManifest, PullError> {
        if is_index(&served) {
            let index: Index = parse("manifest list", &served.bytes)?;
            let chosen = index.choose(&self.platform);
            let chosen = chosen.ok_or_else(|| PullError::NoPlatform(self.platform.to_string()))?;
            let manifest = self.registry.manifest(&chosen.digest.to_string()).await;
            served = manifest.map_err(|error| self.refused(error, &name.to_string()))?;
        }
        match served.media_type.split(';').next().unwrap_or_default() {
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => parse("manifest", &served.bytes),
            other => Err(PullError::Unsupported(other.to_owned())),
        }
    }

    /// The configuration, from here if it is here.
    async fn config(&self, digest: &Digest) -> std::result::Result<Vec<u8>, PullError> {
        if let Ok(bytes) = self.inner.store.config_bytes(digest) {
            return Ok(bytes);
        }
        let bytes = self.registry.document(digest).await?;
        if Digest::of(&bytes) != *digest {
            return Err(PullError::ConfigDigest(digest.clone()));
        }
        Ok(bytes)
    }

    /// Brings the layers that are missing, several at once.
    async fn layers(&self, layers: Vec<Wanted>) -> std::result::Result<(), PullError> {
        let mut transfers: Vec<(Wanted, Arc<Transfer>)> = Vec::new();
        for wanted in layers {
            let id = wanted.blob.digest.short();
            if self.inner.store.has_layer(&wanted.diff_id) {
                self.say(Progress::layer(id, "Already exists"));
            } else {
                self.say(Progress::layer(id, "Pulling fs layer"));
                let source = (&self.registry, self.repository.as_str());
                let transfer = self.inner.transfers.join(self.inner, source, &wanted);
                transfers.push((wanted, transfer));
            }
        }
        let all = transfers.iter().map(|(wanted, transfer)| self.follow(wanted, transfer));
        futures_util::future::try_join_all(all).await.map(|_| ())
    }

    /// Tells how a layer gets on, until it is here.
    async fn follow(&self, wanted: &Wanted, transfer: &Transfer) -> std::result::Result<(), PullError> {
        let id = wanted.blob.digest.short();
        let mut phase = transfer.watch();
        let mut told = Milestone::Started;
        loop {
            let now = phase.borrow_and_update().clone();
            for line in told.up_to(Milestone::of(&now)) {
                self.say(Progress::layer(id, line));
            }
            match now {
                Phase::Done => return Ok(()),
                Phase::Failed(error) => return Err(PullError::Shared(error)),
                Phase::Waiting => self.say(Progress::layer(id, "Waiting")),
                Phase::Downloading { current, total } => {
                    self.say(Progress::amount(id, "Downloading", current, total));
                }
                Phase::Extracting { current, total } => {
                    self.say(Progress::amount(id, "Extracting", current, total));
                }
                Phase::Retrying { seconds } => {
                    let unit = if seconds == 1 { "second" } else { "seconds" };
                    self.say(Progress::layer(id, format!("Retrying in {seconds} {unit}")));
                }
                Phase::Verifying | Phase::Downloaded => {}
            }
            if phase.changed().await.is_err() {
                return Err(PullError::Canceled);
            }
        }
    }

    fn refused(&self, error: RegistryError, name: &str) -> PullError {
        PullError::of_manifest(error, &self.repository, name)
    }

    fn say(&self, line: Progress) {
        // Whoever asked may have gone away; the pull goes on for as long as its future is polled.
        let _ = self.progress.send(line);
    }

    fn pulled(&self, name: &Name, id: &Digest) {
        let mut attributes = std::collections::BTreeMap::from([("name".to_owned(), self.repository.clone())]);
        let labels = self.inner.lock().images.get(id).and_then(|document| document.config.clone()?.labels);
        attributes.extend(labels.unwrap_or_default());
        self.inner.events.send(EventType::Image, "pull", &name.to_string(), attributes);
    }
}

/// Lines that every layer gets, even if it was quicker than somebody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Milestone {
    Started,
    Verifying,
    Downloaded,
    Complete,
}

impl Milestone {
    fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Verifying => Self::Verifying,
            Phase::Downloaded | Phase::Extracting { .. } => Self::Downloaded,
            Phase::Done => Self::Complete,
            _ => Self::Started,
        }
    }

    /// The lines between what was told and `now`.
    fn up_to(&mut self, now: Self) -> Vec<&'static str> {
        let lines = [
            (Self::Verifying, "Verifying Checksum"),
            (Self::Downloaded, "Download complete"),
            (Self::Complete, "Pull complete"),
        ];
        let before = std::mem::replace(self, now.max(*self));
        lines.iter().filter(|(at, _)| *at > before && *at <= now).map(|(_, line)| *line).collect()
    }
}

fn is_index(manifest: &Manifest) -> bool {
    let media_type = manifest.media_type.split(';').next().unwrap_or_default();
    matches!(
        media_type,
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

/// What the registry is asked for.
fn wanted(name: &Name) -> String {
    match name {
        Name::Tag(reference) => reference.tag().to_owned(),
        Name::Digest(canonical) => canonical.digest.to_string(),
    }
}

fn parse<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> std::result::Result<T, PullError> {
    serde_json::from_slice(bytes).map_err(|source| PullError::Malformed { what, source })
}
