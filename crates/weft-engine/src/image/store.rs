//! What is on disk of the images.
//!
//! ```text
//! image/configs/<digest>          configuration documents
//! image/layers/<diff id>/diff     unpacked layer, a lower directory of overlays
//! image/layers/<diff id>/tar.zst  the archive itself, for `docker save`
//! image/layers/<diff id>/served.json  what registries call it, as far as is known
//! image/layers/<diff id>/size     bytes in regular files; written last: without it the layer is not complete
//! image/repositories.json         names
//! image/tmp                       work in progress, emptied at start
//! ```
//!
//! A layer directory is filled under `tmp` and renamed into place; names change by rename of the whole file. So a
//! crash leaves nothing half-made in sight.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::compression::decompress;
use super::digest::{Digest, HashingReader};
use super::document::Document;
use super::layer::{self, LayerError};
use super::reference::Name;
use crate::error::EngineError;

type Result<T> = std::result::Result<T, EngineError>;

/// Speed over size: layers are read back only by `docker save`.
const ZSTD_LEVEL: i32 = 1;

/// The image directory.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// Held while something that is ready takes its place: two pulls may bring the same.
    placing: Mutex<()>,
}

/// A layer that is ready, but not in its place.
#[derive(Debug)]
pub(crate) struct Unpacked {
    id: Digest,
    work: WorkDir,
}

/// A stored image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) id: Digest,
    pub(crate) document: Document,
}

impl Store {
    pub(crate) fn open(root: PathBuf) -> Result<Self> {
        let tmp = root.join("tmp");
        if tmp.exists() {
            fs::remove_dir_all(&tmp).map_err(EngineError::file("empty", &tmp))?;
        }
        for dir in ["configs", "layers", "tmp"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).map_err(EngineError::file("create", path))?;
        }
        Ok(Self { root, placing: Mutex::new(()) })
    }

    fn config_path(&self, id: &Digest) -> PathBuf {
        self.root.join("configs").join(id.hex())
    }

    pub(super) fn layer_path(&self, id: &Digest) -> PathBuf {
        self.root.join("layers").join(id.hex())
    }

    /// The unpacked layer.
    pub(crate) fn diff_path(&self, id: &Digest) -> PathBuf {
        self.layer_path(id).join("diff")
    }

    /// A fresh directory for work in progress.
    pub(crate) fn work_dir(&self) -> Result<WorkDir> {
        let name = hex::encode(rand::random::<[u8; 8]>());
        let path = self.root.join("tmp").join(name);
        fs::create_dir(&path).map_err(EngineError::file("create", &path))?;
        Ok(WorkDir(path))
    }

    /// All names.
    pub(crate) fn load_names(&self) -> Result<BTreeMap<Name, Digest>> {
        let path = self.root.join("repositories.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(EngineError::file("read", path)(error)),
        };
        let names: BTreeMap<String, Digest> = serde_json::from_slice(&bytes).map_err(|error| {
            EngineError::Malformed { what: "repositories.json", detail: error.to_string() }
        })?;
        Ok(names.into_iter().filter_map(|(name, id)| Some((Name::parse(&name).ok()?, id))).collect())
    }

    pub(crate) fn save_names(&self, names: &BTreeMap<Name, Digest>) -> Result<()> {
        let path = self.root.join("repositories.json");
        let names: BTreeMap<String, &Digest> =
            names.iter().map(|(name, id)| (name.to_string(), id)).collect();
        let bytes = serde_json::to_vec_pretty(&names).unwrap_or_default();
        weft_durable::replace(&path, &bytes, 0o600).map_err(EngineError::file("write", path))
    }

    /// All images whose document can be read.
    pub(crate) fn load_images(&self) -> Result<Vec<Image>> {
        let path = self.root.join("configs");
        let entries = fs::read_dir(&path).map_err(EngineError::file("read", &path))?;
        let ids = entries.flatten().filter_map(|entry| {
            format!("sha256:{}", entry.file_name().to_string_lossy()).parse::<Digest>().ok()
        });
        Ok(ids.filter_map(|id| self.load_image(&id).ok()).collect())
    }

    fn load_image(&self, id: &Digest) -> Result<Image> {
        Ok(Image { id: id.clone(), document: parse_document(&self.config_bytes(id)?)? })
    }

    /// The document as it was given.
    pub(crate) fn config_bytes(&self, id: &Digest) -> Result<Vec<u8>> {
        let path = self.config_path(id);
        fs::read(&path).map_err(EngineError::file("read", path))
    }

    /// Stores a document.
    pub(crate) fn put_config(&self, bytes: &[u8]) -> Result<Image> {
        let id = Digest::of(bytes);
        let document = parse_document(bytes)?;
        let path = self.config_path(&id);
        let _placing = self.placing();
        weft_durable::replace(&path, bytes, 0o600).map_err(EngineError::file("write", path))?;
        Ok(Image { id, document })
    }

    pub(crate) fn remove_config(&self, id: &Digest) -> Result<()> {
        let path = self.config_path(id);
        fs::remove_file(&path).map_err(EngineError::file("remove", path))
    }

    /// Whether a layer is complete.
    pub(crate) fn has_layer(&self, id: &Digest) -> bool {
        self.layer_path(id).join("size").exists()
    }

    /// Bytes in the files of a layer.
    pub(crate) fn layer_size(&self, id: &Digest) -> i64 {
        let text = fs::read_to_string(self.layer_path(id).join("size")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Unpacks an archive (plain, gzip or zstd) as a layer; its diff id.
    pub(crate) fn put_layer(&self, archive: impl Read, expected: Option<&Digest>) -> Result<Digest> {
        self.place_layer(self.unpack_layer(archive, expected)?)
    }

    /// The same so that what is in its place survives a crash of the machine whole.
    pub(crate) fn put_layer_durably(&self, archive: impl Read, expected: &Digest) -> Result<Digest> {
        let unpacked = self.unpack_layer(archive, Some(expected))?;
        File::open(&unpacked.work.0)
            .and_then(|dir| rustix::fs::syncfs(dir).map_err(io::Error::from))
            .map_err(EngineError::file("sync", &unpacked.work.0))?;
        self.place_layer(unpacked)
    }

    pub(super) fn placing(&self) -> MutexGuard<'_, ()> {
        self.placing.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn unpack_layer(&self, archive: impl Read, expected: Option<&Digest>) -> Result<Unpacked> {
        let work = self.work_dir()?;
        let failed = |source: io::Error| EngineError::file("write", &work.0)(source);
        let diff = work.0.join("diff");
        fs::create_dir(&diff).map_err(failed)?;
        let copy = File::create(work.0.join("tar.zst"))
            .and_then(|file| zstd::stream::write::Encoder::new(file, ZSTD_LEVEL))
            .map_err(EngineError::file("write", &work.0))?;
        let plain = decompress(archive).map_err(|error| EngineError::Refused(error.to_string()))?;
        let mut reader = HashingReader::new(plain, copy);
        let size = layer::unpack(&mut reader, &diff).map_err(layer_error)?;
        let (id, _, copy) = reader.finish().map_err(|error| layer_error(LayerError::Archive(error)))?;
        copy.finish().and_then(|file| file.sync_data()).map_err(EngineError::file("write", &work.0))?;
        if let Some(expected) = expected.filter(|expected| **expected != id) {
            let detail = format!("layer does not match its digest: {expected} is {id}");
            return Err(EngineError::Malformed { what: "image", detail });
        }
        fs::write(work.0.join("size"), size.to_string()).map_err(EngineError::file("write", &work.0))?;
        Ok(Unpacked { id, work })
    }

    fn place_layer(&self, Unpacked { id, work }: Unpacked) -> Result<Digest> {
        let _placing = self.placing();
        let path = self.layer_path(&id);
        if self.has_layer(&id) {
            return Ok(id);
        }
        // What is there without its size is left from a crash.
        let _ = fs::remove_dir_all(&path);
        fs::rename(work.keep(), &path).map_err(EngineError::file("create", &path))?;
        Ok(id)
    }

    /// Removes all other layers.
    pub(crate) fn remove_layers_but(&self, used: &BTreeSet<Digest>) -> Result<()> {
        let path = self.root.join("layers");
        let entries = fs::read_dir(&path).map_err(EngineError::file("read", &path))?;
        let found = entries.flatten().filter_map(|entry| {
            format!("sha256:{}", entry.file_name().to_string_lossy()).parse::<Digest>().ok()
        });
        found.filter(|layer| !used.contains(layer)).try_for_each(|layer| self.remove_layer(&layer))
    }

    pub(crate) fn remove_layer(&self, id: &Digest) -> Result<()> {
        let path = self.layer_path(id);
        let gone = self.work_dir()?.keep();
        let target = gone.join("layer");
        fs::rename(&path, &target).map_err(EngineError::file("remove", path))?;
        fs::remove_dir_all(&gone).map_err(EngineError::file("remove", gone))
    }

    /// The archive of a layer, byte for byte.
    pub(crate) fn layer_archive(&self, id: &Digest) -> Result<impl Read + use<>> {
        let path = self.layer_path(id).join("tar.zst");
        File::open(&path).and_then(zstd::stream::read::Decoder::new).map_err(EngineError::file("read", path))
    }

    /// Length of a layer's archive in bytes.
    pub(crate) fn archive_length(&self, id: &Digest) -> Result<u64> {
        let failed = EngineError::file("read", self.layer_path(id));
        io::copy(&mut self.layer_archive(id)?, &mut io::sink()).map_err(failed)
    }
}

fn layer_error(error: LayerError) -> EngineError {
    EngineError::Refused(error.to_string())
}

pub(crate) fn parse_document(bytes: &[u8]) -> Result<Document> {
    serde_json::from_slice(bytes)
        .map_err(|error| EngineError::Malformed { what: "image configuration", detail: error.to_string() })
}

/// A directory that vanishes when dropped.
#[derive(Debug)]
pub(crate) struct WorkDir(PathBuf);

impl WorkDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a whole stream to a file, for archives whose parts come in any order.
/// Answers how many bytes there were.
pub(crate) fn spool(mut from: impl Read, to: &Path) -> io::Result<u64> {
    let mut file = File::create(to)?;
    let copied = io::copy(&mut from, &mut file)?;
    file.flush()?;
    Ok(copied)
}
