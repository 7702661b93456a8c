//! `docker push`: layers, configuration, and last the manifest, so that a registry never names what it does not have.

mod error;
mod layer;
mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Semaphore;

pub(crate) use self::error::PushError;
use self::manifest::Manifest;
use super::oci::Descriptor;
use super::progress::{Progress, ProgressSink, Pushed};
use super::reference::{Canonical, Name, Reference, full_repository};
use super::registry::{Access, Registry, RegistryAuth, RepositoryPath};
use super::{Busy, Digest, Images, Inner, Result, invalid};
use crate::error::EngineError;
use crate::events::EventType;

/// Docker's default of `--max-concurrent-uploads`.
const UPLOADS_MAX: usize = 5;

/// Layers of all pushes that are on their way at once.
pub(crate) struct UploadSlots(Arc<Semaphore>);

impl Default for UploadSlots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UPLOADS_MAX)))
    }
}

/// What is to be pushed.
enum Wish {
    Tag(Reference),
    AllTags(String),
    Digest(String),
}

impl Wish {
    /// A tag beside the name wins over one in it.
    fn parse(name: &str, tag: Option<&str>) -> Result<Self> {
        let name = match tag {
            Some(digest) if digest.starts_with("sha256:") => format!("{name}@{digest}"),
            _ => name.to_owned(),
        };
        if name.contains('@') {
            return Ok(Self::Digest(Canonical::parse(&name).map_err(invalid)?.repository));
        }
        let parsed = Reference::parse(&name).map_err(invalid)?;
        let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        match tag {
            Some(tag) => Reference::new(parsed.repository(), tag).map(Self::Tag).map_err(invalid),
            None if has_tag => Ok(Self::Tag(parsed)),
            None => Ok(Self::AllTags(parsed.repository().to_owned())),
        }
    }

    fn repository(&self) -> &str {
        match self {
            Self::Tag(reference) => reference.repository(),
            Self::AllTags(repository) | Self::Digest(repository) => repository,
        }
    }
}

impl Images {
    /// Gives a registry the image of a name, or all of a repository's tags if none is given.
    ///
    /// A failure before the first line of progress is one of the request, a later one of the stream.
    pub async fn push(
        &self,
        name: &str,
        tag: Option<&str>,
        auth: &RegistryAuth,
        progress: &ProgressSink,
    ) -> Result<()> {
        let wish = Wish::parse(name, tag)?;
        let full = full_repository(wish.repository());
        let _ = progress.send(Progress::message(format!("The push refers to repository [{full}]")));
        self.push_wished(&wish, auth, progress).await.map_err(EngineError::push)?;
        let (repository, shown) = match &wish {
            Wish::Tag(reference) => (reference.repository(), reference.to_string()),
            other => (other.repository(), other.repository().to_owned()),
        };
        let attributes = BTreeMap::from([("name".to_owned(), repository.to_owned())]);
        self.inner.events.send(EventType::Image, "push", &shown, attributes);
        Ok(())
    }

    async fn push_wished(
        &self,
        wish: &Wish,
        auth: &RegistryAuth,
        progress: &ProgressSink,
    ) -> std::result::Result<(), PushError> {
        let repository = wish.repository();
        let tags = self.inner.tags_of_repository(repository);
        let tags = tags.ok_or_else(|| PushError::NoImage(repository.to_owned()))?;
        let tags = match wish {
            Wish::Digest(_) => return Err(PushError::DigestGiven),
            Wish::Tag(wanted) if !tags.contains(wanted) => return Err(PushError::NoTag(wanted.to_string())),
            Wish::Tag(wanted) => vec![wanted.clone()],
            Wish::AllTags(_) if tags.is_empty() => return Err(PushError::NoTags(repository.to_owned())),
            Wish::AllTags(_) => tags,
        };
        let place = RepositoryPath::of(repository);
        let registry = Registry::open(&self.inner.registries, &place, auth, Access::Push).await?;
        let push = Push { inner: &self.inner, registry, place, repository: repository.to_owned(), progress };
        for tag in &tags {
            push.tag(tag).await?;
        }
        Ok(())
    }
}

impl Inner {
    /// Tags of a repository; `None` if no name here is of it.
    fn tags_of_repository(&self, repository: &str) -> Option<Vec<Reference>> {
        let state = self.lock();
        let names: Vec<&Name> = state.names.keys().filter(|name| name.repository() == repository).collect();
        (!names.is_empty()).then(|| names.into_iter().filter_map(Name::tag).cloned().collect())
    }
}

struct Push<'a> {
    inner: &'a Arc<Inner>,
    registry: Registry,
    place: RepositoryPath,
    /// In the familiar form.
    repository: String,
    progress: &'a ProgressSink,
}

impl Push<'_> {
    async fn tag(&self, name: &Reference) -> std::result::Result<(), PushError> {
        // From here on no layer is removed by others.
        let _busy = Busy::new(self.inner);
        let (id, layers) = self.image(name)?;
        let layers = self.layers(&layers).await?;
        let missing = |source| PushError::Config { name: name.to_string(), source };
        let config = self.inner.store.config_bytes(&id).map_err(missing)?;
        let manifest = Manifest::new((&id, config.len() as u64), &layers);
        if !self.registry.has_blob(&id).await? {
            self.registry.put_document(&id, config).await?;
        }
        let (digest, size) = (Digest::of(&manifest.bytes), manifest.bytes.len() as u64);
        self.registry.put_manifest(name.tag(), manifest.media_type, manifest.bytes).await?;
        self.say(Progress::message(format!("{}: digest: {digest} size: {size}", name.tag())));
        self.remember(&id, &digest)?;
        let (tag, digest) = (name.tag().to_owned(), digest.to_string());
        self.say(Progress::aux(Pushed { tag, digest, size }));
        Ok(())
    }

    /// Id and layers, lowest first, of the image that has the name.
    fn image(&self, name: &Reference) -> std::result::Result<(Digest, Vec<Digest>), PushError> {
        let state = self.inner.lock();
        let id = state.names.get(&Name::Tag(name.clone())).cloned();
        let id = id.ok_or_else(|| PushError::NoTag(name.to_string()))?;
        let layers = state.images.get(&id).map(|document| document.rootfs.diff_ids.clone());
        Ok((id, layers.unwrap_or_default()))
    }

    /// Sees to it that the repository has all layers, several at once; a layer that occurs twice is sent once.
    async fn layers(&self, layers: &[Digest]) -> std::result::Result<Vec<Descriptor>, PushError> {
        let mut seen = BTreeSet::new();
        // Docker tells of the uppermost first.
        let different: Vec<&Digest> = layers.iter().rev().filter(|layer| seen.insert(*layer)).collect();
        for layer in &different {
            self.say(Progress::layer(layer.short(), "Preparing"));
        }
        let all = different.iter().map(|layer| self.layer(layer));
        let blobs = futures_util::future::try_join_all(all).await?;
        let blobs: BTreeMap<&Digest, Descriptor> = different.into_iter().zip(blobs).collect();
        Ok(layers.iter().filter_map(|layer| blobs.get(layer).cloned()).collect())
    }

    /// From now on the image has the name that the registry gives it, too.
    fn remember(&self, id: &Digest, digest: &Digest) -> std::result::Result<(), PushError> {
        let name = Name::Digest(Canonical { repository: self.repository.clone(), digest: digest.clone() });
        let mut state = self.inner.lock();
        // It may have been removed meanwhile.
        if !state.images.contains_key(id) {
            return Ok(());
        }
        self.inner.set_names(&mut state, &[name], id).map_err(PushError::Names)
    }

    fn say(&self, line: Progress) {
        // Whoever asked may have gone away; the push goes on for as long as its future is polled.
        let _ = self.progress.send(line);
    }
}
