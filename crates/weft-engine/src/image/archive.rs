//! The archives of `docker save` (with `manifest.json`) and OCI image layouts (with `index.json`): reading and writing.
//!
//! Parts come in any order, so an archive is first spooled: each regular file under a name of our own, never under one
//! the archive gives.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::{Archive, EntryType};

use super::compression::decompress;
use super::digest::Digest;
use super::layer::is_truncated;
use super::oci::{Descriptor, Index, Manifest, Platform};
use super::reference::{Reference, full_repository};
use super::store::{Image, Store, WorkDir, parse_document, spool};
use crate::error::EngineError;

type Result<T> = std::result::Result<T, EngineError>;

/// Documents are small; a larger one is an attack.
const DOCUMENT_MAX: u64 = 16 << 20;
/// Entries of an archive that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Links within an archive that are followed.
const LINKS_MAX: usize = 16;

/// One image of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// An image of an archive that now is in the store.
pub(crate) struct Loaded {
    pub(crate) image: Image,
    pub(crate) names: Vec<Reference>,
}

/// Reads an archive into the store.
pub(crate) fn load(store: &Store, input: impl Read) -> Result<Vec<Loaded>> {
    let spooled = Spooled::read(store.work_dir()?, input)?;
    if let Some(bytes) = spooled.document("manifest.json")? {
        let images: Vec<SavedImage> = parse("manifest.json", &bytes)?;
        return images.into_iter().map(|image| spooled.load_saved(store, image)).collect();
    }
    if let Some(bytes) = spooled.document("index.json")? {
        let index: Index = parse("index.json", &bytes)?;
        return spooled.load_index(store, index, 0);
    }
    Err(EngineError::Refused("open manifest.json: no such file or directory".to_owned()))
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| EngineError::Malformed { what, detail: error.to_string() })
}

/// An archive on disk: its names, and our file for each.
struct Spooled {
    work: WorkDir,
    files: HashMap<PathBuf, PathBuf>,
    links: HashMap<PathBuf, PathBuf>,
}

impl Spooled {
    fn read(work: WorkDir, input: impl Read) -> Result<Self> {
        let truncated = || EngineError::Refused("unexpected EOF".to_owned());
        let refused = |error: io::Error| match is_truncated(&error) {
            true => truncated(),
            false => EngineError::Refused("archive/tar: invalid tar header".to_owned()),
        };
        let plain = decompress(input).map_err(|error| EngineError::Refused(error.to_string()))?;
        let mut spooled = Self { work, files: HashMap::new(), links: HashMap::new() };
        let mut archive = Archive::new(plain);
        for (number, entry) in archive.entries().map_err(refused)?.enumerate() {
            let mut entry = entry.map_err(refused)?;
            if number > ENTRIES_MAX {
                return Err(EngineError::Refused("too many files in archive".to_owned()));
            }
            let Some(name) = entry.path().ok().and_then(|path| clean(&path)) else {
                return Err(EngineError::Refused("invalid path in archive".to_owned()));
            };
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let file = spooled.work.path().join(number.to_string());
                    if spool(&mut entry, &file).map_err(refused)? < entry.size() {
                        return Err(truncated());
                    }
                    spooled.files.insert(name, file);
                }
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name().ok().flatten().map(|target| target.into_owned());
                    let from = match entry.header().entry_type() {
                        EntryType::Symlink => name.parent().unwrap_or(Path::new("")).to_owned(),
                        _ => PathBuf::new(),
                    };
                    if let Some(target) = target.and_then(|target| clean(&from.join(target))) {
                        spooled.links.insert(name, target);
                    }
                }
                _ => {}
            }
        }
        Ok(spooled)
    }

    fn file(&self, name: &str) -> Option<&Path> {
        let mut name = clean(Path::new(name))?;
        for _ in 0..LINKS_MAX {
            if let Some(file) = self.files.get(&name) {
                return Some(file);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    fn open(&self, name: &str) -> Result<File> {
        let missing = || EngineError::Refused(format!("open {name}: no such file or directory"));
        let path = self.file(name).ok_or_else(missing)?;
        File::open(path).map_err(EngineError::file("read", path))
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if self.file(name).is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.open(name)?
            .take(DOCUMENT_MAX)
            .read_to_end(&mut bytes)
            .map_err(EngineError::file("read", name))?;
        Ok(Some(bytes))
    }

    fn required(&self, name: &str) -> Result<Vec<u8>> {
        let missing = || EngineError::Refused(format!("open {name}: no such file or directory"));
        self.document(name)?.ok_or_else(missing)
    }

    fn load_saved(&self, store: &Store, saved: SavedImage) -> Result<Loaded> {
        let config = self.required(&saved.config)?;
        let image = self.load_image(store, &config, &saved.layers)?;
        let names = saved.repo_tags.unwrap_or_default();
        let names = names.iter().filter_map(|name| Reference::parse(name).ok()).collect();
        Ok(Loaded { image, names })
    }

    fn load_image(&self, store: &Store, config: &[u8], layers: &[String]) -> Result<Image> {
        let document = parse_document(config)?;
        let wanted = &document.rootfs.diff_ids;
        if wanted.len() != layers.len() {
            let detail = format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                wanted.len(),
                layers.len()
            );
            return Err(EngineError::Refused(detail));
        }
        for (id, name) in wanted.iter().zip(layers) {
            if !store.has_layer(id) {
                store.put_layer(self.open(name)?, Some(id))?;
            }
        }
        store.put_config(config)
    }

    fn load_index(&self, store: &Store, index: Index, depth: usize) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        for descriptor in index.manifests {
            let host = Platform::host();
            let ours = descriptor.platform.as_ref().is_none_or(|platform| host.accepts(platform));
            if !ours {
                continue;
            }
            let bytes = self.required(&blob(&descriptor.digest))?;
            if Digest::of(&bytes) != descriptor.digest {
                let detail = format!("manifest does not match its digest {}", descriptor.digest);
                return Err(EngineError::Malformed { what: "image", detail });
            }
            let name = descriptor.annotations.as_ref().and_then(annotated_name);
            if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
                let config = self.required(&blob(&manifest.config.digest))?;
                let layers: Vec<String> = manifest.layers.iter().map(|layer| blob(&layer.digest)).collect();
                let image = self.load_image(store, &config, &layers)?;
                loaded.push(Loaded { image, names: name.into_iter().collect() });
            } else if depth < 2 {
                let inner = self.load_index(store, parse("index", &bytes)?, depth + 1)?;
                loaded.extend(inner.into_iter().map(|mut image| {
                    image.names.extend(name.clone());
                    image
                }));
            }
        }
        if loaded.is_empty() {
            return Err(EngineError::Refused("the archive has no image for this platform".to_owned()));
        }
        Ok(loaded)
    }
}

/// The name that tools leave in the annotations: whole (containerd), else only a tag (OCI), which names nothing here.
fn annotated_name(annotations: &BTreeMap<String, String>) -> Option<Reference> {
    ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
        .iter()
        .filter_map(|key| annotations.get(*key))
        .find(|name| name.contains([':', '/']))
        .and_then(|name| Reference::parse(name).ok())
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A relative path without `..` going above the archive.
fn clean(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir if clean.pop() => {}
            _ => return None,
        }
    }
    Some(clean)
}

/// Writes an archive that both Docker and OCI tools read.
pub(crate) fn save(store: &Store, images: &[(Image, Vec<Reference>)], output: impl Write) -> Result<()> {
    let mut writer = Writer { tar: tar::Builder::new(output), written: Vec::new() };
    let mut saved = Vec::new();
    let mut index = Index { schema_version: 2, ..Index::default() };
    for (image, names) in images {
        let config = store.config_bytes(&image.id)?;
        writer.bytes(&blob(&image.id), &config)?;
        let mut layers = Vec::new();
        for id in &image.document.rootfs.diff_ids {
            let size = writer.layer(store, id)?;
            layers.push(descriptor("application/vnd.oci.image.layer.v1.tar", id, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
            config: descriptor("application/vnd.oci.image.config.v1+json", &image.id, config.len() as u64),
            layers,
        };
        let bytes = serde_json::to_vec(&manifest).unwrap_or_default();
        let id = Digest::of(&bytes);
        writer.bytes(&blob(&id), &bytes)?;
        for name in names.iter().map(Some).chain(names.is_empty().then_some(None)) {
            let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &id, bytes.len() as u64);
            entry.annotations = name.map(|name| {
                BTreeMap::from([
                    ("io.containerd.image.name".to_owned(), canonical(name)),
                    ("org.opencontainers.image.ref.name".to_owned(), name.tag().to_owned()),
                ])
            });
            index.manifests.push(entry);
        }
        saved.push(SavedImage {
            config: blob(&image.id),
            repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::to_string).collect()),
            layers: image.document.rootfs.diff_ids.iter().map(blob).collect(),
        });
    }
    writer.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    writer.bytes("index.json", &serde_json::to_vec(&index).unwrap_or_default())?;
    writer.bytes("manifest.json", &serde_json::to_vec(&saved).unwrap_or_default())?;
    writer
        .tar
        .into_inner()
        .and_then(|mut output| output.flush())
        .map_err(EngineError::file("write", "archive"))
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.clone(),
        size,
        annotations: None,
        platform: None,
    }
}

/// The long form that containerd expects.
fn canonical(name: &Reference) -> String {
    format!("{}:{}", full_repository(name.repository()), name.tag())
}

struct Writer<W: Write> {
    tar: tar::Builder<W>,
    written: Vec<(Digest, u64)>,
}

impl<W: Write> Writer<W> {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    fn layer(&mut self, store: &Store, id: &Digest) -> Result<u64> {
        if let Some((_, size)) = self.written.iter().find(|(written, _)| written == id) {
            return Ok(*size);
        }
        let size = store.archive_length(id)?;
        self.entry(&blob(id), size, store.layer_archive(id)?)?;
        self.written.push((id.clone(), size));
        Ok(size)
    }

    fn entry(&mut self, name: &str, size: u64, data: impl Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        self.tar.append_data(&mut header, name, data).map_err(EngineError::file("write", name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_manifest_is_decoded_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = serde_json::from_slice::<Vec<SavedImage>>(&bytes);
            let _ = serde_json::from_slice::<Index>(&bytes);
            let _ = serde_json::from_slice::<Manifest>(&bytes);
        }

        #[test]
        fn names_in_archives_never_leave_it(name in "[a-z./]{0,40}") {
            if let Some(path) = clean(Path::new(&name)) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
