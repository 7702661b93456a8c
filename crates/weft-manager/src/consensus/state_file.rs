//! The store's image on disk: one redb file, written whole in one transaction every so many log entries.
//!
//! Between two images memory is the truth and the log can rebuild it. Only rows that changed since the image before are
//! rewritten. Invariant: rows, claims and the applied index in the file are of one moment; the log is purged only up
//! to the index of an image that was synced.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::type_config::alias::{LogIdOf, StoredMembershipOf};
use prost::Message;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::StorageError;
use super::disk::Disk;
use super::types::RaftTypes;
use super::wire;
use crate::seal::{Place, SealProblem, Sealer};
use crate::store::{Claim, Object, ObjectKind, View};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Plain, so that any version can say what it found.
const FORMAT_TABLE: TableDefinition<'_, &str, u32> = TableDefinition::new("format");
const FORMAT_KEY: &str = "version";
/// Format of both database files.
const FORMAT: u32 = 1;
const ROLE: &str = "state";
const APPLIED: &str = "applied";
const MEMBERSHIP: &str = "membership";
const CLAIMS: &str = "claims";
const INDEX: &str = "index";

type LogId = LogIdOf<RaftTypes>;
type Membership = StoredMembershipOf<RaftTypes>;

/// What Raft knows of an image.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    pub(super) log_id: Option<LogId>,
    pub(super) membership: Membership,
}

/// Everything the file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pub(super) applied: Applied,
    pub(super) view: Arc<View>,
}

#[derive(Clone, PartialEq, Message)]
struct EncodedClaims {
    #[prost(message, repeated, tag = "1")]
    claims: Vec<EncodedClaim>,
}

#[derive(Clone, PartialEq, Message)]
struct EncodedClaim {
    #[prost(string, tag = "1")]
    claim: String,
    #[prost(string, tag = "2")]
    holder: String,
}

/// The open file.
pub(super) struct StateFile {
    database: Database,
    path: PathBuf,
    sealer: Arc<Sealer>,
    /// What the file holds, to write only what differs.
    written: Mutex<Image>,
    /// Dropped after the database.
    _open: OpenFile,
}

/// Held for as long as a file is open: the receiving end of the channel sees the last one go.
pub(super) type OpenFile = tokio::sync::mpsc::Sender<()>;

impl StateFile {
    pub(super) fn open(
        path: &Path,
        disk: &Arc<dyn Disk>,
        sealer: Arc<Sealer>,
        open: OpenFile,
    ) -> Result<Self, StorageError> {
        Self::start(disk.open(path)?, path, sealer, open)
    }

    fn start(
        database: Database,
        path: &Path,
        sealer: Arc<Sealer>,
        open: OpenFile,
    ) -> Result<Self, StorageError> {
        create_tables(&database).map_err(|source| StorageError::Open { path: path.to_path_buf(), source })?;
        format_row(&database, path)?;
        let file =
            Self { database, path: path.to_path_buf(), sealer, written: Mutex::default(), _open: open };
        let image = file.read()?;
        *file.written() = image;
        Ok(file)
    }

    /// The image last written.
    pub(super) fn image(&self) -> Image {
        self.written().clone()
    }

    /// Writes and syncs an image. Blocks: not for an async worker thread.
    pub(super) fn write(&self, image: &Image) -> Result<(), StorageError> {
        let mut written = self.written();
        self.write_rows(&written.view, image)
            .map_err(|source| StorageError::Open { path: self.path.clone(), source })?;
        *written = image.clone();
        Ok(())
    }

    fn written(&self) -> MutexGuard<'_, Image> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_rows(&self, old: &View, image: &Image) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for object in image.view.objects() {
                let unchanged = old
                    .object(object.kind(), object.id())
                    .is_some_and(|before| before.version() == object.version());
                if !unchanged {
                    let row = StateRow::of(&object);
                    objects.insert(row.0.as_str(), self.seal(&row.0, &object.encode()).as_slice())?;
                }
            }
            for object in old.objects() {
                if image.view.object(object.kind(), object.id()).is_none() {
                    objects.remove(StateRow::of(&object).0.as_str())?;
                }
            }
            let mut meta = transaction.open_table(META)?;
            let mut put = |key: &str, plain: &[u8]| -> Result<(), redb::Error> {
                meta.insert(key, self.seal(key, plain).as_slice())?;
                Ok(())
            };
            put(CLAIMS, &encode_claims(&image.view))?;
            put(INDEX, &image.view.index().to_le_bytes())?;
            put(MEMBERSHIP, &wire::encode_membership(&image.applied.membership))?;
            if let Some(log_id) = &image.applied.log_id {
                put(APPLIED, &wire::encode_log_id(log_id))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn seal(&self, record: &str, plain: &[u8]) -> Vec<u8> {
        self.sealer.seal(self.place(record), plain)
    }

    fn place<'a>(&'a self, record: &'a str) -> Place<'a> {
        Place { file: &self.path, role: ROLE, record }
    }

    fn read(&self) -> Result<Image, StorageError> {
        let database = |source: redb::Error| StorageError::Open { path: self.path.clone(), source };
        let transaction = self.database.begin_read().map_err(|e| database(e.into()))?;
        let objects = transaction.open_table(OBJECTS).map_err(|e| database(e.into()))?;
        let mut view = View::default();
        for row in objects.iter().map_err(|e| database(e.into()))? {
            let (key, sealed) = row.map_err(|e| database(e.into()))?;
            let place = self.place(key.value());
            let kind =
                (StateRow::kind(key.value())).ok_or_else(|| place.malformed("unknown kind of object"))?;
            let plain = self.sealer.open(place, sealed.value())?;
            view.put(Object::decode(kind, &plain).map_err(|error| place.malformed(error))?);
        }
        let meta = transaction.open_table(META).map_err(|e| database(e.into()))?;
        let get = |key: &str| -> Result<Option<Vec<u8>>, StorageError> {
            match meta.get(key).map_err(|e| database(e.into()))? {
                Some(sealed) => Ok(Some(self.sealer.open(self.place(key), sealed.value())?)),
                None => Ok(None),
            }
        };
        if let Some(plain) = get(CLAIMS)? {
            decode_claims(&plain, &mut view).map_err(|error| self.place(CLAIMS).malformed(error))?;
        }
        if let Some(plain) = get(INDEX)? {
            let index = plain.try_into().map_err(|_| self.place(INDEX).malformed("want 8 bytes"))?;
            view.set_index(u64::from_le_bytes(index));
        }
        let mut applied = Applied::default();
        if let Some(plain) = get(APPLIED)? {
            applied.log_id = Some(wire::decode_log_id(&plain).map_err(|e| self.place(APPLIED).malformed(e))?);
        }
        if let Some(plain) = get(MEMBERSHIP)? {
            applied.membership =
                wire::decode_membership(&plain).map_err(|e| self.place(MEMBERSHIP).malformed(e))?;
        }
        Ok(Image { applied, view: Arc::new(view) })
    }
}

/// The key of an object's row: `kind/id`.
struct StateRow(String);

impl StateRow {
    fn of(object: &Object) -> Self {
        Self(format!("{}/{}", object.kind(), object.id()))
    }

    fn kind(key: &str) -> Option<ObjectKind> {
        key.split_once('/')?.0.parse().ok()
    }
}

fn encode_claims(view: &View) -> Vec<u8> {
    let claims = (view.claims().iter())
        .map(|(claim, holder)| EncodedClaim { claim: claim.to_text(), holder: holder.to_owned() })
        .collect();
    EncodedClaims { claims }.encode_to_vec()
}

fn decode_claims(plain: &[u8], view: &mut View) -> Result<(), String> {
    for row in EncodedClaims::decode(plain).map_err(|error| error.to_string())?.claims {
        let claim = Claim::from_text(&row.claim).ok_or_else(|| format!("unknown claim {:?}", row.claim))?;
        view.claims_mut().insert(claim, &row.holder);
    }
    Ok(())
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(META)?;
    transaction.commit()?;
    Ok(())
}

/// Writes the format into a new file; refuses a file of a newer one.
pub(super) fn format_row(database: &Database, path: &Path) -> Result<(), StorageError> {
    let found = read_or_write_format(database)
        .map_err(|source| StorageError::Open { path: path.to_path_buf(), source })?;
    if found == FORMAT {
        return Ok(());
    }
    let place = Place { file: path, role: ROLE, record: "format" };
    let found = u8::try_from(found).unwrap_or(u8::MAX);
    Err(place.error(0, SealProblem::Version(found)).into())
}

fn read_or_write_format(database: &Database) -> Result<u32, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let mut table = transaction.open_table(FORMAT_TABLE)?;
        let found = table.get(FORMAT_KEY)?.map(|row| row.value());
        match found {
            Some(found) => found,
            None => {
                table.insert(FORMAT_KEY, FORMAT)?;
                FORMAT
            }
        }
    };
    transaction.commit()?;
    Ok(found)
}

#[cfg(test)]
#[path = "state_file_test.rs"]
mod tests;
