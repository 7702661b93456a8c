//! Documents read, and written over the version that was read.

use std::time::Duration;

use weft_kv::{Entry, StoreError};

use super::Shared;
use crate::document::{Document, MAX_DOCUMENT};
use crate::error::{GlobalError, Refused};

/// For an answer, whatever the number of servers.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many hosts may be quicker, one after the other.
const ATTEMPTS: u32 = 50;
/// The longest wait between two of them; by chance, so that hosts do not meet again.
const PAUSE: Duration = Duration::from_millis(60);

/// What came of a change.
pub(super) struct Changed<R> {
    /// What the edit answered.
    pub(super) value: R,
    /// The document was not there before.
    pub(super) is_new: bool,
}

impl Shared {
    /// The document, as the store's servers agree on it.
    pub(super) async fn read<D: Document>(&self, key: &str) -> Result<Option<D>, GlobalError> {
        self.get(key).await?.map(|entry| decode(key, &entry)).transpose()
    }

    /// A store of several servers could keep a request waiting at one after the other.
    async fn get(&self, key: &str) -> Result<Option<Entry>, GlobalError> {
        match tokio::time::timeout(PATIENCE, self.store.get(key)).await {
            Ok(found) => Ok(found?),
            Err(_) => {
                let reason = format!("nothing came within {PATIENCE:?}");
                Err(StoreError::Silent { store: self.store.name().to_owned(), reason }.into())
            }
        }
    }

    /// Changes a document, or makes it from `fresh`. The edit is done again when somebody else was quicker or an answer
    /// was lost, so it must change nothing where its work is done already.
    pub(super) async fn change<D, R>(
        &self,
        key: &str,
        fresh: impl Fn() -> D,
        mut edit: impl FnMut(&mut D) -> Result<R, Refused>,
    ) -> Result<Changed<R>, GlobalError>
    where
        D: Document + Clone + PartialEq,
    {
        // A write of ours whose answer was lost may have made it.
        let mut is_new = false;
        for _ in 0..ATTEMPTS {
            let found = self.get(key).await?;
            let before: Option<D> = found.as_ref().map(|entry| decode(key, entry)).transpose()?;
            is_new |= before.is_none();
            let before = before.unwrap_or_else(&fresh);
            let mut after = before.clone();
            let value = edit(&mut after)?;
            if before == after {
                return Ok(Changed { value, is_new });
            }
            let bytes = after.encode();
            if bytes.len() > MAX_DOCUMENT {
                return Err(Refused::TooLarge(key.to_owned()).into());
            }
            let written = match &found {
                Some(entry) => self.store.replace(key, entry.version, &bytes).await,
                None => self.store.create(key, &bytes).await,
            };
            match written {
                Ok(_) => return Ok(Changed { value, is_new }),
                Err(StoreError::Conflict { .. } | StoreError::Lost { .. }) => {
                    tokio::time::sleep(PAUSE.mul_f64(rand::random())).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(GlobalError::Contended(key.to_owned()))
    }
}

fn decode<D: Document>(key: &str, entry: &Entry) -> Result<D, GlobalError> {
    D::decode(&entry.value)
        .map_err(|error| GlobalError::Unreadable { key: key.to_owned(), reason: error.to_string() })
}
