//! Images: content store, layers, names; import, load, save and Docker's rules of removal.

mod archive;
mod changes;
mod commit;
mod compression;
pub(crate) mod digest;
pub(crate) mod document;
mod layer;
mod login;
mod oci;
mod progress;
mod pull;
mod push;
mod reference;
mod registry;
mod removal;
mod served;
mod store;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::Stream;

pub(crate) use self::commit::{Commit, commit_config, commit_name};
pub(crate) use self::digest::Digest;
pub(crate) use self::document::RunConfig;
use self::document::{Document, History, RootFs, architecture};
#[cfg(test)]
pub(crate) use self::layer::unpack as unpack_layer;
pub(crate) use self::layer::{MAX_DEPTH, Unpacking};
pub use self::progress::{Progress, ProgressDetail, ProgressSink, Pushed};
pub use self::pull::{DistributionInspect, PullOptions, ServedPlatform};
pub(crate) use self::pull::{PullError, Transfers};
pub(crate) use self::push::{PushError, UploadSlots};
pub(crate) use self::reference::{Name, Reference, ReferenceError, Term};
pub use self::registry::RegistryAuth;
pub(crate) use self::registry::{RefusalCode, Registries, RegistryError};
use self::store::{Image, Store};
use crate::blocking::blocking;
use crate::byte_pipe::{body_reader, body_writer};
use crate::error::EngineError;
use crate::events::{EventBus, EventType};
use crate::options::ByteStream;

type Result<T> = std::result::Result<T, EngineError>;

/// The images of this host.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    state: Mutex<State>,
    events: EventBus,
    registries: Registries,
    transfers: Transfers,
    upload_slots: UploadSlots,
    /// Who uses images: asked by the rules of removal.
    users: Mutex<Option<Arc<dyn ImageUsers>>>,
}

/// What is known of the images; the disk follows every change before it shows.
#[derive(Default)]
struct State {
    images: BTreeMap<Digest, Document>,
    names: BTreeMap<Name, Digest>,
    /// Layers that a load or import is about to use: removal leaves them.
    busy: usize,
}

/// A container that uses an image.
#[derive(Debug, Clone)]
pub(crate) struct ImageUser {
    /// Short id of the container.
    pub(crate) container: String,
    pub(crate) running: bool,
}

/// Knows which containers use an image.
pub(crate) trait ImageUsers: Send + Sync {
    fn users_of(&self, image: &Digest) -> Vec<ImageUser>;

    /// Layers below containers: the image itself may be gone.
    fn layers(&self) -> BTreeSet<Digest>;
}

/// What a container needs of its image.
#[derive(Debug, Clone)]
pub(crate) struct ImageForContainer {
    pub(crate) id: Digest,
    pub(crate) config: RunConfig,
    pub(crate) layers: Vec<Digest>,
}

impl Images {
    pub(crate) fn open(root: PathBuf, registries: Registries, events: EventBus) -> Result<Self> {
        let store = Store::open(root)?;
        let images: BTreeMap<_, _> =
            store.load_images()?.into_iter().map(|image| (image.id, image.document)).collect();
        let mut names = store.load_names()?;
        names.retain(|_, id| images.contains_key(id));
        let state = Mutex::new(State { images, names, busy: 0 });
        let (transfers, upload_slots, users) =
            (Transfers::default(), UploadSlots::default(), Mutex::new(None));
        let inner = Inner { store, state, events, registries, transfers, upload_slots, users };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Removes layers that nothing uses: what a pull or load left that did not reach its end, and what lay below
    /// containers whose image was removed before them. For the start, when nothing is on its way.
    pub(crate) fn sweep(&self) -> Result<()> {
        let mut used = self.inner.layers_of_containers();
        used.extend(layers_of(self.inner.lock().images.values()));
        self.inner.store.remove_layers_but(&used)
    }

    pub(crate) fn set_users(&self, users: Arc<dyn ImageUsers>) {
        *self.inner.users.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(users);
    }

    /// Makes an image of a root file system (`docker import`); its id (`sha256:…`). `changes` are Dockerfile
    /// instructions (`CMD ["sh"]`, `ENV a=b`).
    pub async fn import(
        &self,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
        reference: Option<&str>,
        message: Option<&str>,
        changes: &[String],
    ) -> Result<String> {
        let reference =
            reference.filter(|text| !text.is_empty()).map(Reference::parse).transpose().map_err(invalid)?;
        let mut config = RunConfig::default();
        changes::apply(&mut config, changes)?;
        let message = message.filter(|text| !text.is_empty()).unwrap_or("Imported from -").to_owned();
        let (inner, reader) = (self.inner.clone(), body_reader(body));
        blocking(move || {
            let _busy = Busy::new(&inner);
            let layer = inner.store.put_layer(reader, None)?;
            let created = jiff::Timestamp::now().to_string();
            let document = Document {
                architecture: architecture().to_owned(),
                comment: Some(message.clone()),
                config: Some(config),
                created: Some(created.clone()),
                history: Some(vec![History {
                    created: Some(created),
                    comment: Some(message),
                    ..History::default()
                }]),
                os: "linux".to_owned(),
                rootfs: RootFs { typ: "layers".to_owned(), diff_ids: vec![layer] },
                ..Document::default()
            };
            let image = inner.store.put_config(&serde_json::to_vec(&document).unwrap_or_default())?;
            let id = inner.add(image, reference.iter().cloned().map(Name::Tag).collect())?;
            inner.event("import", &id, &id.to_string());
            Ok(id.to_string())
        })
        .await
    }

    /// Loads an archive of `docker save` or an OCI layout; what to tell the user, line by line
    /// (`Loaded image: a:1`).
    pub async fn load(
        &self,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<Vec<String>> {
        let (inner, reader) = (self.inner.clone(), body_reader(body));
        blocking(move || {
            let _busy = Busy::new(&inner);
            let mut lines = Vec::new();
            for loaded in archive::load(&inner.store, reader)? {
                if loaded.names.is_empty() {
                    lines.push(format!("Loaded image ID: {}", loaded.image.id));
                }
                lines.extend(loaded.names.iter().map(|name| format!("Loaded image: {name}")));
                let id = inner.add(loaded.image, loaded.names.into_iter().map(Name::Tag).collect())?;
                inner.event("load", &id, &id.to_string());
            }
            Ok(lines)
        })
        .await
    }

    /// An archive of these images.
    pub async fn save(&self, names: &[String]) -> Result<ByteStream> {
        let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
        {
            let state = self.inner.lock();
            for name in names {
                let (id, reference) = state.resolve(name).map_err(|error| match error {
                    // `docker save` shows the name as it was given.
                    EngineError::NoSuchImage(_) => EngineError::NoSuchImage(name.clone()),
                    other => other,
                })?;
                let at = images.iter().position(|(image, _)| image.id == id).unwrap_or_else(|| {
                    let document = state.images.get(&id).cloned().unwrap_or_default();
                    images.push((Image { id, document }, Vec::new()));
                    images.len() - 1
                });
                images[at].1.extend(reference.and_then(|name| name.tag().cloned()));
            }
        }
        for (image, _) in &images {
            self.inner.event("save", &image.id, &image.id.to_string());
        }
        let (mut writer, stream) = body_writer();
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = archive::save(&inner.store, &images, &mut writer) {
                tracing::warn!(%error, "save images");
                writer.fail(std::io::Error::other(error));
            }
        });
        Ok(stream)
    }

    /// Gives an image a further name.
    pub fn tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let reference = Reference::new(repo, tag).map_err(invalid)?;
        let mut state = self.inner.lock();
        let (id, _) = state.resolve(name)?;
        let name = Name::Tag(reference);
        self.inner.set_names(&mut state, std::slice::from_ref(&name), &id)?;
        drop(state);
        self.inner.event("tag", &id, &name.to_string());
        Ok(())
    }

    /// What a container of this image needs.
    pub(crate) fn for_container(&self, name: &str) -> Result<ImageForContainer> {
        let state = self.inner.lock();
        let (id, _) = state.resolve(name)?;
        let document = state.images.get(&id).cloned().unwrap_or_default();
        Ok(ImageForContainer {
            id,
            config: document.config.unwrap_or_default(),
            layers: document.rootfs.diff_ids,
        })
    }

    /// Lower directories of an overlay, uppermost first.
    pub(crate) fn lower_directories(&self, layers: &[Digest]) -> Vec<PathBuf> {
        layers.iter().rev().map(|layer| self.inner.store.diff_path(layer)).collect()
    }

    /// How many images there are.
    pub fn count(&self) -> usize {
        self.inner.lock().images.len()
    }
}

/// Most bytes after the end of an archive that are read; tar's usual blocks have 10 KiB.
const PADDING_MAX: u64 = 1 << 20;

/// Unpacks an archive, compressed or not, into a directory of a root. Its links do not lead out of the root.
pub(crate) fn unpack_into(
    archive: impl std::io::Read,
    root: &std::os::fd::OwnedFd,
    base: &std::path::Path,
    unpacking: Unpacking,
) -> Result<()> {
    let refused = |text: String| EngineError::Refused(text);
    let mut plain = compression::decompress(archive).map_err(|error| refused(error.to_string()))?;
    layer::unpack_below(&mut plain, root, base, unpacking).map_err(|error| refused(error.to_string()))?;
    // Writers fill up their last block; a client whose last bytes nobody takes calls that an error.
    let _ = std::io::copy(&mut plain.take(PADDING_MAX), &mut std::io::sink());
    Ok(())
}

fn invalid(error: ReferenceError) -> EngineError {
    EngineError::Invalid(error.to_string())
}

/// While it lives, no layer is removed: a load may be about to use it, a push to send it.
struct Busy<'a>(&'a Inner);

impl<'a> Busy<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.lock().busy += 1;
        Self(inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn event(&self, action: &str, id: &Digest, name: &str) {
        let mut attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        let labels = self.lock().images.get(id).and_then(|document| document.config.clone()?.labels);
        attributes.extend(labels.unwrap_or_default());
        self.events.send(EventType::Image, action, &id.to_string(), attributes);
    }

    /// An image that is here with all its layers.
    fn complete(&self, id: &Digest) -> Option<Document> {
        let document = self.lock().images.get(id).cloned()?;
        document.rootfs.diff_ids.iter().all(|layer| self.store.has_layer(layer)).then_some(document)
    }

    fn add(&self, image: Image, names: Vec<Name>) -> Result<Digest> {
        let mut state = self.lock();
        state.images.insert(image.id.clone(), image.document);
        self.set_names(&mut state, &names, &image.id)?;
        Ok(image.id)
    }

    fn set_names(&self, state: &mut State, new: &[Name], id: &Digest) -> Result<()> {
        if new.iter().all(|name| state.names.get(name) == Some(id)) {
            return Ok(());
        }
        let mut names = state.names.clone();
        names.extend(new.iter().map(|name| (name.clone(), id.clone())));
        self.store.save_names(&names)?;
        state.names = names;
        Ok(())
    }
}

impl State {
    /// What a user means by a name, an id or a unique prefix of one, and which name it was.
    fn resolve(&self, term: &str) -> Result<(Digest, Option<Name>)> {
        let parsed = Term::parse(term);
        match &parsed {
            Ok(Term::Id(id)) if self.images.contains_key(id) => return Ok((id.clone(), None)),
            Ok(Term::Name(name)) => {
                if let Some(id) = self.names.get(name) {
                    return Ok((id.clone(), Some(name.clone())));
                }
                // An id, with any name in front of it.
                if let Name::Digest(canonical) = name
                    && self.images.contains_key(&canonical.digest)
                {
                    return Ok((canonical.digest.clone(), None));
                }
            }
            _ => {}
        }
        if let Some(id) = self.by_prefix(term) {
            return Ok((id, None));
        }
        match parsed {
            Ok(Term::Name(name)) => Err(EngineError::NoSuchImage(name.to_string())),
            Ok(Term::Id(id)) => Err(EngineError::NoSuchImage(id.to_string())),
            Err(error) => Err(EngineError::Invalid(error.to_string())),
        }
    }

    fn by_prefix(&self, term: &str) -> Option<Digest> {
        let prefix = term.strip_prefix("sha256:").unwrap_or(term);
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut found = self.images.keys().filter(|id| id.hex().starts_with(prefix));
        let first = found.next()?;
        found.next().is_none().then(|| first.clone())
    }

    fn names_of(&self, id: &Digest) -> Vec<Name> {
        self.names.iter().filter(|(_, named)| *named == id).map(|(name, _)| name.clone()).collect()
    }

    /// Names with a tag.
    fn tags_of(&self, id: &Digest) -> Vec<String> {
        self.names_of(id).iter().filter_map(Name::tag).map(Reference::to_string).collect()
    }

    /// Names with a digest.
    fn digests_of(&self, id: &Digest) -> Vec<String> {
        self.names_of(id).iter().filter(|name| name.tag().is_none()).map(Name::to_string).collect()
    }

    /// Layers that images other than `except` use.
    fn used_layers(&self, except: &Digest) -> BTreeSet<Digest> {
        let others = self.images.iter().filter(|(id, _)| *id != except);
        layers_of(others.map(|(_, document)| document))
    }
}

fn layers_of<'a>(documents: impl Iterator<Item = &'a Document>) -> BTreeSet<Digest> {
    documents.flat_map(|document| document.rootfs.diff_ids.clone()).collect()
}
